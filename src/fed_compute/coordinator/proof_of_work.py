"""Challenges for newcomers: signed, so that nothing is kept of those that nobody meets; each is good once.

`pow1.<id>.<expiry in Unix seconds>.<bits>.<HMAC-SHA-256 of the rest>`, the id and the HMAC in hexadecimal.
"""

import hashlib
import hmac
import math
import re
import secrets

from fed_compute.clock import Clock
from fed_compute.coordinator.auth import Entry
from fed_compute.errors import ProofOfWorkRequired
from fed_compute.protocol.messages import Proof
from fed_compute.protocol.proof_of_work import is_solution
from fed_compute.rounds.records import Client
from fed_compute.storage.sql.store import Records

LIFETIME_SECONDS = 600.0
_FORM = re.compile(r"(pow1\.([0-9a-f]{32})\.([0-9]{1,12})\.([0-9]{1,2}))\.([0-9a-f]{64})", re.ASCII)


class Challenges:
    """Makes challenges and judges their solutions. All replicas share the pepper, and so the signing key."""

    def __init__(self, clock: Clock, *, pepper: bytes, difficulty_bits: int) -> None:
        self._clock = clock
        self._key = hmac.new(pepper, b"fed-compute proof of work", hashlib.sha256).digest()
        self._difficulty_bits = difficulty_bits

    def refusal(self, found: str) -> ProofOfWorkRequired:
        """Return the refusal that says what was found wrong and brings a fresh challenge."""
        expires_at = math.ceil(self._clock.now() + LIFETIME_SECONDS)
        body = f"pow1.{secrets.token_hex(16)}.{expires_at}.{self._difficulty_bits}"
        return ProofOfWorkRequired(
            found=found,
            challenge=f"{body}.{self._sign(body)}",
            difficulty_bits=self._difficulty_bits,
            expires_at=float(expires_at),
        )

    def entry(self, proof: Proof | None) -> Entry:
        """Return the door for a newcomer with this proof: whoever passes has spent its challenge.

        Raises:
            ProofOfWorkRequired: if the proof is missing or no good. The entry itself raises it if the
                challenge was met before.
        """
        if proof is None:
            raise self.refusal("this coordinator asks newcomers for a proof of work")
        form = _FORM.fullmatch(proof.challenge)
        if form is None or not hmac.compare_digest(self._sign(form[1]), form[5]):
            raise self.refusal("the challenge is not one of this coordinator's")
        challenge_id, expires_at, bits = form[2], float(form[3]), int(form[4])
        if self._clock.now() >= expires_at:
            raise self.refusal("the challenge has expired")
        if not is_solution(proof.challenge, proof.solution, difficulty_bits=bits):
            raise self.refusal("the solution does not solve the challenge")

        def enter(records: Records, client: Client) -> Client:
            now, again = self._clock.now(), self.refusal("the challenge was met before, each is good once")
            records.challenges.spend(challenge_id, expires_at=expires_at, now=now, refusal=again)
            return client

        return enter

    def _sign(self, body: str) -> str:
        return hmac.new(self._key, body.encode("ascii"), hashlib.sha256).hexdigest()
