"""Who is asking: registration, keys, scopes."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from fed_compute.clock import Clock
from fed_compute.coordinator.keys import KeyText, new_key, parse_key, secret_hmac, secret_matches
from fed_compute.errors import (
    AuthenticationFailed,
    ClientBanned,
    ClientNameInvalid,
    ClientNameTaken,
    ClientPending,
    PermissionDenied,
)
from fed_compute.ids import CLIENT_NAME_RULE, ClientId, is_client_name
from fed_compute.protocol.redaction import redact
from fed_compute.rounds.records import ApiKey, Client, ClientState, Scope
from fed_compute.storage.sql.store import Records, Store

FIRST_OPERATOR = "operator.key"
"""The label of the operator's key that lies in the data folder."""

Entry = Callable[[Records, Client], Client]
"""What the door does to a newcomer, within the transaction that adds it: return it as it comes in, or refuse."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a valid key speaks for. An operator or observer has no client; a pending client may only wait."""

    key_id: str
    scope: Scope
    client_id: ClientId | None
    is_pending: bool = False


class AuthManager:
    """Makes and verifies API keys. Only an HMAC of a secret is ever stored. Nothing is cached.

    A key made under the pepper before the present one is good as well, and moves to the present one
    when it is first used. `on_use` is told the id of each key that opened something.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        pepper: bytes,
        previous_pepper: bytes | None = None,
        on_use: Callable[[str], None] = lambda key_id: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._peppers = (pepper,) if previous_pepper is None else (pepper, previous_pepper)
        self._on_use = on_use

    def register(self, name: str | None, *, capabilities: str = "{}") -> tuple[ClientId, str]:
        """Let a client in and return its id and its key, as `admit` does, without asking anything of it."""
        client, text = self.admit(name, capabilities=capabilities, entry=lambda records, client: client)
        return client.client_id, text

    def admit(self, name: str | None, *, capabilities: str, entry: Entry) -> tuple[Client, str]:
        """Register a client and return it and its key, which is shown only this once.

        Without a name the client gets one. The id is the name.

        Raises:
            ClientNameInvalid: if the name has a form that cannot be used.
            ClientNameTaken: if another client has it.
            Refused: whatever `entry` refuses with; nothing is left then.
        """
        name = name if name is not None else f"client-{secrets.token_hex(4)}"
        if not is_client_name(name) or redact(name) != name:  # a key pasted as a name would be shown to everybody
            raise ClientNameInvalid(redact(name), rule=CLIENT_NAME_RULE)
        client_id, now = ClientId(name), self._clock.now()
        with self._store.transaction() as records:
            if records.clients.find(client_id) is not None:
                raise ClientNameTaken(name)
            client = entry(records, Client(client_id, capabilities, registered_at=now, last_seen_at=now))
            records.clients.add(client)
            key, text = self.make(Scope.CLIENT, client_id=client_id)
            records.keys.add(key)
            records.journal.append("client_registered", at=now, client_id=client_id, state=client.state)
        return client, text

    def issue_operator_key(self, *, keep: Callable[[str], object] | None = None) -> str:
        """Make a new operator key for the data folder, revoke the earlier one, and return its text.

        `keep` gets the text before the key is on record: a crash between the two leaves a key that opens
        nothing, never one that nobody has.
        """
        now = self._clock.now()
        with self._store.transaction() as records:
            for key in records.keys.of_scope(Scope.OPERATOR):
                if key.label == FIRST_OPERATOR and key.revoked_at is None:
                    records.keys.put(replace(key, revoked_at=now))
            return self._add_operator_key(records, keep)

    def first_operator_key(self, *, keep: Callable[[str], object] | None = None) -> str | None:
        """Make an operator key and return its text, or None if there is a live one, perhaps of another replica.

        `keep` as for `issue_operator_key`.
        """
        with self._store.transaction() as records:
            if any(key.is_live(self._clock.now()) for key in records.keys.of_scope(Scope.OPERATOR)):
                return None
            return self._add_operator_key(records, keep)

    def _add_operator_key(self, records: Records, keep: Callable[[str], object] | None) -> str:
        key, text = self.make(Scope.OPERATOR, label=FIRST_OPERATOR)
        records.keys.add(key)
        records.journal.append("operator_key_issued", at=self._clock.now(), key_id=key.key_id)
        if keep is not None:
            keep(text)
        return text

    def make(
        self,
        scope: Scope,
        *,
        client_id: ClientId | None = None,
        label: str = "",
        lifetime_seconds: float | None = None,
    ) -> tuple[ApiKey, str]:
        """Draw a key: what to store of it, which is left to the caller, and its text."""
        text, now = new_key(), self._clock.now()
        stored = ApiKey(
            key_id=text.key_id,
            secret_hmac=secret_hmac(text.secret, pepper=self._peppers[0]),
            scope=scope,
            client_id=client_id,
            created_at=now,
            revoked_at=None,
            label=label,
            expires_at=None if lifetime_seconds is None else now + lifetime_seconds,
        )
        return stored, text.write()

    def identify(self, key_text: str | None) -> Principal:
        """Return who the key speaks for, be it a client that still waits for approval.

        Every failure gives the same answer in about the same time, so that a guess learns nothing.

        Raises:
            AuthenticationFailed: if the key is missing, malformed, unknown, expired or revoked.
            ClientBanned: if it is a good key of a client that was shut out.
        """
        text = parse_key(key_text or "")
        if text is None:
            raise AuthenticationFailed()
        with self._store.snapshot() as records:
            found = records.keys.with_state(text.key_id)
        key, state = found if found is not None else (None, None)
        stored = None if key is None else key.secret_hmac
        fits = [secret_matches(text.secret, stored, pepper=pepper) for pepper in self._peppers]
        if key is None or not any(fits) or not key.is_live(self._clock.now()):
            raise AuthenticationFailed()
        if state is ClientState.BANNED:
            raise ClientBanned()
        if not fits[0]:
            self._move_to_present_pepper(text)
        self._on_use(key.key_id)
        return Principal(key.key_id, key.scope, key.client_id, is_pending=state is ClientState.PENDING)

    def authenticate(self, key_text: str | None) -> Principal:
        """Return who the key speaks for, somebody that may take part.

        Raises:
            AuthenticationFailed, ClientBanned: as `identify`.
            ClientPending: if it is a client that waits for approval.
        """
        principal = self.identify(key_text)
        if principal.is_pending:
            raise ClientPending()
        return principal

    def require_client(self, key_text: str | None, client_id: str) -> ClientId:
        """Check that the key is this client's own.

        Raises:
            AuthenticationFailed: if the key is not valid, or belongs to somebody else.
            ClientBanned, ClientPending: if the key's client may not take part.
        """
        principal = self.authenticate(key_text)
        if principal.client_id is None or principal.client_id != client_id:
            raise AuthenticationFailed()
        return principal.client_id

    def require_operator(self, key_text: str | None) -> Principal:
        """Check that the key is an operator's.

        Raises:
            AuthenticationFailed, ClientBanned, ClientPending: if the key is not valid, or opens nothing now.
            PermissionDenied: if it is valid but not an operator's.
        """
        return self._require(key_text, Scope.OPERATOR)

    def require_observer(self, key_text: str | None) -> Principal:
        """Check that the key is an observer's or an operator's: its owner may read everything.

        Raises:
            AuthenticationFailed, ClientBanned, ClientPending: if the key is not valid, or opens nothing now.
            PermissionDenied: if it is a client's.
        """
        return self._require(key_text, Scope.OBSERVER, Scope.OPERATOR)

    def _require(self, key_text: str | None, *scopes: Scope) -> Principal:
        principal = self.authenticate(key_text)
        if principal.scope not in scopes:
            raise PermissionDenied(scope=scopes[0])
        return principal

    def _move_to_present_pepper(self, text: KeyText) -> None:
        with self._store.transaction() as records:
            if (key := records.keys.find(text.key_id)) is not None:
                records.keys.put(replace(key, secret_hmac=secret_hmac(text.secret, pepper=self._peppers[0])))
