"""Who is asking: registration, keys, scopes."""

import hmac
import secrets
from dataclasses import dataclass

from fed_compute.clock import Clock
from fed_compute.coordinator.keys import new_key, parse_key, secret_hmac
from fed_compute.errors import AuthenticationFailed, ClientNameInvalid, ClientNameTaken, PermissionDenied
from fed_compute.ids import CLIENT_NAME_RULE, ClientId, is_client_name
from fed_compute.rounds.records import ApiKey, Client, Scope
from fed_compute.storage.sql.store import Records, Store


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a valid key speaks for. An operator has no client."""

    scope: Scope
    client_id: ClientId | None


class AuthManager:
    """Issues and verifies API keys. Only an HMAC of a secret is ever stored."""

    def __init__(self, store: Store, clock: Clock, *, pepper: bytes) -> None:
        self._store = store
        self._clock = clock
        self._pepper = pepper

    def register(self, name: str | None, *, capabilities: str = "{}") -> tuple[ClientId, str]:
        """Register a client and return its id and its key, which is shown only this once.

        Without a name the client gets one. The id is the name.

        Raises:
            ClientNameInvalid: if the name has a form that cannot be used.
            ClientNameTaken: if another client has it.
        """
        name = name if name is not None else f"client-{secrets.token_hex(4)}"
        if not is_client_name(name):
            raise ClientNameInvalid(name, rule=CLIENT_NAME_RULE)
        client_id, now = ClientId(name), self._clock.now()
        with self._store.transaction() as records:
            if records.clients.find(client_id) is not None:
                raise ClientNameTaken(name)
            records.clients.add(Client(client_id, capabilities, registered_at=now, last_seen_at=now))
            key, text = self._new_key(Scope.CLIENT, client_id)
            records.clients.add_key(key)
            records.journal.append("client_registered", at=now, client_id=client_id)
        return client_id, text

    def issue_operator_key(self) -> str:
        """Make a new operator key, revoke the earlier ones, and return its text."""
        with self._store.transaction() as records:
            records.clients.revoke_keys(Scope.OPERATOR, now=self._clock.now())
            return self._add_operator_key(records)

    def first_operator_key(self) -> str | None:
        """Make an operator key and return its text, or None if there is a live one, perhaps of another replica."""
        with self._store.transaction() as records:
            if any(key.revoked_at is None for key in records.clients.keys_of_scope(Scope.OPERATOR)):
                return None
            return self._add_operator_key(records)

    def _add_operator_key(self, records: Records) -> str:
        key, text = self._new_key(Scope.OPERATOR, None)
        records.clients.add_key(key)
        records.journal.append("operator_key_issued", at=self._clock.now(), key_id=key.key_id)
        return text

    def authenticate(self, key_text: str | None) -> Principal:
        """Return who the key speaks for.

        Every failure gives the same answer in about the same time, so that a guess learns nothing.

        Raises:
            AuthenticationFailed: if the key is missing, malformed, unknown or revoked.
        """
        key = parse_key(key_text or "")
        if key is None:
            raise AuthenticationFailed()
        with self._store.snapshot() as records:
            stored = records.clients.key(key.key_id)
        wanted = stored.secret_hmac if stored is not None else "0" * 64
        matches = hmac.compare_digest(secret_hmac(key.secret, pepper=self._pepper), wanted)
        if stored is None or not matches or stored.revoked_at is not None:
            raise AuthenticationFailed()
        return Principal(stored.scope, stored.client_id)

    def require_client(self, key_text: str | None, client_id: str) -> ClientId:
        """Check that the key is this client's own.

        Raises:
            AuthenticationFailed: if the key is not valid, or belongs to somebody else.
        """
        principal = self.authenticate(key_text)
        if principal.client_id is None or principal.client_id != client_id:
            raise AuthenticationFailed()
        return principal.client_id

    def require_operator(self, key_text: str | None) -> None:
        """Check that the key is an operator's.

        Raises:
            AuthenticationFailed: if the key is not valid.
            PermissionDenied: if it is valid but not an operator's.
        """
        if self.authenticate(key_text).scope is not Scope.OPERATOR:
            raise PermissionDenied(scope=Scope.OPERATOR)

    def _new_key(self, scope: Scope, client_id: ClientId | None) -> tuple[ApiKey, str]:
        key = new_key()
        stored = ApiKey(
            key_id=key.key_id,
            secret_hmac=secret_hmac(key.secret, pepper=self._pepper),
            scope=scope,
            client_id=client_id,
            created_at=self._clock.now(),
            revoked_at=None,
        )
        return stored, key.write()
