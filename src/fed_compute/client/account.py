"""Signing in: with a given key, with the stored credential, or by registering."""

import secrets
from collections.abc import Callable
from pathlib import Path

from fed_compute.client.api import CoordinatorApi
from fed_compute.client.config import ClientSettings
from fed_compute.client.disclosure import tell_machine
from fed_compute.client.machine import capabilities
from fed_compute.client.outbox import Outbox
from fed_compute.client.security import Credential, CredentialStore
from fed_compute.errors import ClientMustAct, CoordinatorBusy, ProofOfWorkRequired, SettingInvalid
from fed_compute.protocol.messages import Proof, RegisterAnswer, RegisterRequest
from fed_compute.protocol.proof_of_work import solve

HARDEST_BITS = 28
"""A coordinator that asks for a harder proof of work is refused: this one takes minutes already."""

_NAMES_TO_TRY = 5
_PROOFS_TO_TRY = 3


class Account:
    """Who this client is at its coordinator."""

    def __init__(
        self,
        settings: ClientSettings,
        store: CredentialStore,
        file: Path,
        api: CoordinatorApi,
        outbox: Outbox,
        *,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare to sign in with the credential in a claimed file; `give_up` may end a long computation early."""
        self._settings = settings
        self._store = store
        self._file = file
        self._api = api
        self._outbox = outbox
        self._give_up = give_up
        self._made_up_name = _made_up_name()

    def sign_in(self) -> str:
        """Give the API object its key and return the client id. May be repeated after `NotNow`.

        A given key wins; else the stored credential is used; else the client registers and the new
        credential is stored before it is used, so that a restarted client is the same one. A proof of
        work is done if the coordinator asks for one.

        Raises:
            SettingInvalid: if a key is given without CLIENT_NAME.
            CredentialUnsafe: if the credential file cannot be used.
            ClientMustAct, CallRefused: if the coordinator refuses the registration.
            NotNow: if the coordinator cannot answer now.
        """
        if self._settings.client_api_key is not None:
            return self._sign_in_with_given_key(self._settings.client_api_key.get_secret_value())
        credential = self._store.load(self._file)
        if credential is None:
            answer = self._register()
            credential = Credential(self._settings.coordinator_url, answer.client_id, answer.api_key)
            self._store.save(self._file, credential)
        self._api.authenticate(credential.api_key)
        return credential.client_id

    def sign_out(self) -> None:
        """Let go of the credential file; it stays for the next start."""
        self._store.release()

    def _sign_in_with_given_key(self, api_key: str) -> str:
        if self._settings.client_name is None:
            raise SettingInvalid(
                "CLIENT_API_KEY is set and CLIENT_NAME is not; set it to the name the key was given to"
            )
        self._api.authenticate(api_key)
        return self._settings.client_name

    def _register(self) -> RegisterAnswer:
        if self._settings.client_name is not None:
            return self._register_as(self._settings.client_name)
        for _ in range(_NAMES_TO_TRY - 1):
            try:
                return self._register_as(self._made_up_name)
            except ClientMustAct as error:
                if error.details["answered"] != "client_name_taken":
                    raise
                self._made_up_name = _made_up_name()
        return self._register_as(self._made_up_name)

    def _register_as(self, name: str) -> RegisterAnswer:
        proof = None
        for _ in range(_PROOFS_TO_TRY + 1):
            try:
                return self._outbox.register(self._request(name, proof))
            except ProofOfWorkRequired as asked:
                proof = self._prove(asked)
        raise ClientMustAct(
            f"the coordinator took none of {_PROOFS_TO_TRY} proofs of work; ask whoever runs it",
            answered=ProofOfWorkRequired.code,
        )

    def _request(self, name: str, proof: Proof | None) -> RegisterRequest:
        invite = self._settings.client_invite
        return RegisterRequest(
            client_name=name,
            invite=None if invite is None else invite.get_secret_value(),
            proof=proof,
            capabilities=tell_machine(capabilities(), self._settings.client_share_machine),
        )

    def _prove(self, asked: ProofOfWorkRequired) -> Proof:
        """Solve a challenge. Cost: 2^bits hashes on average, a second or so for 20 bits."""
        if asked.difficulty_bits > HARDEST_BITS:
            raise ClientMustAct(
                f"the coordinator asks for a proof of work of {asked.difficulty_bits} bits, this client does at most "
                f"{HARDEST_BITS}; ask whoever runs it for an invitation",
                answered=asked.code,
            )
        solution = solve(asked.challenge, difficulty_bits=asked.difficulty_bits, give_up=self._give_up)
        if solution is None:
            raise CoordinatorBusy("the proof of work was not finished", retry_after_seconds=0.0, told=False)
        return Proof(challenge=asked.challenge, solution=solution)


def _made_up_name() -> str:
    return f"client-{secrets.token_hex(4)}"
