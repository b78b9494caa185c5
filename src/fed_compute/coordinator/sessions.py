"""Sessions of people at the dashboard: a key is shown once, a signed token stands for it until it ends.

Nothing is stored. A token names the key that opened it, and holds only while that key does: revoking a key, or
shutting its client out, ends its sessions with the next request, at every replica.
"""

import hmac
import secrets
from dataclasses import dataclass
from hashlib import sha256

from fed_compute.clock import Clock
from fed_compute.coordinator.auth import AuthManager, Principal
from fed_compute.errors import AuthenticationFailed, ClientBanned
from fed_compute.rounds.records import ClientState, Scope
from fed_compute.storage.sql.store import Store

SESSION_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True)
class Session:
    """A person who is logged in. `form_secret` goes into every form, so that no other site can send one."""

    principal: Principal
    form_secret: str

    @property
    def is_operator(self) -> bool:
        """Whether the person may steer the platform."""
        return self.principal.scope is Scope.OPERATOR

    @property
    def is_staff(self) -> bool:
        """Whether the person may see what strangers may not: operators and observers."""
        return self.principal.scope in (Scope.OPERATOR, Scope.OBSERVER)


class SessionDesk:
    """Opens and reads sessions."""

    def __init__(self, store: Store, auth: AuthManager, clock: Clock, *, pepper: bytes) -> None:
        self._store = store
        self._auth = auth
        self._clock = clock
        self._secret = hmac.digest(pepper, b"dashboard sessions", sha256)

    def open(self, key_text: str) -> str:
        """Return the token of a new session for whoever brings a key; good for twelve hours.

        Raises:
            AuthenticationFailed, ClientBanned: if the key opens nothing.
        """
        principal = self._auth.identify(key_text)
        told = f"{principal.key_id}.{int(self._clock.now()) + SESSION_SECONDS}.{secrets.token_hex(8)}"
        return f"{told}.{self._sign(told)}"

    def read(self, token: str) -> Session:
        """Return the session that a token stands for.

        Raises:
            AuthenticationFailed: if it is not one of ours, has ended, or its key has.
            ClientBanned: if its client was shut out.
        """
        told, _, signature = token.rpartition(".")
        parts = told.split(".")
        if len(parts) != 3 or not hmac.compare_digest(signature.encode(), self._sign(told).encode()):
            raise AuthenticationFailed("this session is not known; log in again")
        if not self._clock.now() < int(parts[1]):
            raise AuthenticationFailed("this session has ended; log in again")
        return Session(self._principal(parts[0]), self._sign(f"form.{told}"))

    def _principal(self, key_id: str) -> Principal:
        with self._store.snapshot() as records:
            found = records.keys.with_state(key_id)
        if found is None or not found[0].is_live(self._clock.now()):
            raise AuthenticationFailed("the key of this session has ended; log in with another")
        key, state = found
        if state is ClientState.BANNED:
            raise ClientBanned()
        return Principal(key.key_id, key.scope, key.client_id, is_pending=state is ClientState.PENDING)

    def _sign(self, told: str) -> str:
        return hmac.new(self._secret, told.encode(), sha256).hexdigest()
