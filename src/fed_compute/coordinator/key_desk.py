"""Keys in an operator's hands: issue, renew, revoke, list."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fed_compute.clock import Clock
from fed_compute.coordinator.auth import AuthManager
from fed_compute.errors import ClientNotFound, KeyEnded, KeyNotFound, LastOperatorKey
from fed_compute.ids import ClientId
from fed_compute.rounds.records import ApiKey, Scope
from fed_compute.storage.sql.store import Records, Store

MOST_IN_A_PAGE = 100
LONGEST_OVERLAP_HOURS = 168


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key. Its text is shown this once and kept nowhere."""

    key: ApiKey
    text: str


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as it stands now: `live`, `expired` or `revoked`."""

    key: ApiKey
    state: Literal["live", "expired", "revoked"]


class KeyDesk:
    """Hands out keys and takes them back. Every act is a line of the journal, with the key that did it (`by`).

    A change holds from the next request on, at every replica: keys are read anew for each request.
    """

    def __init__(self, store: Store, auth: AuthManager, clock: Clock) -> None:
        self._store = store
        self._auth = auth
        self._clock = clock

    def page(
        self,
        *,
        limit: int = MOST_IN_A_PAGE,
        after: str | None = None,
        scope: Literal["client", "observer", "operator"] | None = None,
        client_id: ClientId | None = None,
    ) -> list[KeyView]:
        """Return keys, newest first, those after the key `after`."""
        wanted = None if scope is None else Scope(scope)
        with self._store.snapshot() as records:
            keys = records.keys.page(limit=limit, after=after, scope=wanted, client_id=client_id)
        return [view_key(key, now=self._clock.now()) for key in keys]

    def issue(
        self, scope: Literal["observer", "operator"], *, label: str, lifetime_seconds: float | None, by: str
    ) -> IssuedKey:
        """Make a key for an operator or an observer. Clients get theirs when they register."""
        with self._store.transaction() as records:
            key, text = self._auth.make(Scope(scope), label=label, lifetime_seconds=lifetime_seconds)
            records.keys.add(key)
            self._note(records, "key_issued", key, by=by, scope=scope)
        return IssuedKey(key, text)

    def rotate(self, key_id: str, *, overlap_seconds: float, by: str) -> IssuedKey:
        """Make the successor of a key: same owner, scope, label and lifetime. The old one ends after the overlap.

        A client has at most these two live keys: others of it end now. If nobody ever used the
        successor, because the answer that held it was lost, it is replaced.

        Raises:
            KeyNotFound: if there is no such key.
            KeyEnded: if it is not live, or its successor is in use.
        """
        with self._store.transaction() as records:
            old = self._live(records, key_id)
            lifetime = _lifetime(old if old.rotated_to is None else self._drop_unused(records, old))
            new = self._succeed(records, [old], lifetime, overlap_seconds=overlap_seconds, by=by)
            if old.client_id is not None:
                self._end_others(records, old.client_id, keep=(old.key_id, new.key.key_id))
            return new

    def rotate_client(self, client_id: ClientId, *, overlap_seconds: float, by: str) -> IssuedKey:
        """Make a new key for a client, whose live keys end after the overlap. One that has none gets one as well.

        Raises:
            ClientNotFound: if there is no such client.
        """
        now = self._clock.now()
        with self._store.transaction() as records:
            if records.clients.find(client_id) is None:
                raise ClientNotFound(client_id)
            live = [key for key in records.keys.of_client(client_id) if key.is_live(now)]
            if live:
                return self._succeed(records, live, _lifetime(live[0]), overlap_seconds=overlap_seconds, by=by)
            key, text = self._auth.make(Scope.CLIENT, client_id=client_id)
            records.keys.add(key)
            self._note(records, "key_issued", key, by=by, scope=Scope.CLIENT)
            return IssuedKey(key, text)

    def revoke(self, key_id: str, *, by: str) -> KeyView:
        """End a key now. Doing it twice changes nothing.

        Raises:
            KeyNotFound: if there is no such key.
            LastOperatorKey: if no other operator key would be left that is good without an end.
        """
        with self._store.transaction() as records:
            key = records.keys.find(key_id)
            if key is None:
                raise KeyNotFound(key_id)
            if key.revoked_at is not None:
                return KeyView(key, "revoked")
            if key.scope is Scope.OPERATOR and not self._other_operators(records, key):
                raise LastOperatorKey()
            key = replace(key, revoked_at=self._clock.now())
            records.keys.put(key)
            self._note(records, "key_revoked", key, by=by)
            return KeyView(key, "revoked")

    def _live(self, records: Records, key_id: str) -> ApiKey:
        key = records.keys.find(key_id)
        if key is None:
            raise KeyNotFound(key_id)
        if not key.is_live(self._clock.now()):
            raise KeyEnded(key_id, found="revoked" if key.revoked_at is not None else "expired")
        return key

    def _drop_unused(self, records: Records, old: ApiKey) -> ApiKey:
        """Revoke the successor of a key, which nobody has used, and return it."""
        successor = records.keys.find(old.rotated_to or "")
        if successor is None or successor.last_used_at is not None or not successor.is_live(self._clock.now()):
            raise KeyEnded(old.key_id, found="renewed already")
        records.keys.put(replace(successor, revoked_at=self._clock.now()))
        return successor

    def _succeed(
        self, records: Records, keys: Sequence[ApiKey], lifetime: float | None, *, overlap_seconds: float, by: str
    ) -> IssuedKey:
        """Make one successor of the keys of one owner. `lifetime` is in seconds."""
        first = keys[0]
        new, text = self._auth.make(
            first.scope, client_id=first.client_id, label=first.label, lifetime_seconds=lifetime
        )
        records.keys.add(new)
        end = self._clock.now() + overlap_seconds
        for old in keys:
            ends_at = end if old.expires_at is None else min(old.expires_at, end)
            records.keys.put(replace(old, expires_at=ends_at, rotated_to=new.key_id))
            self._note(records, "key_rotated", old, by=by, successor=new.key_id, overlap_seconds=overlap_seconds)
        return IssuedKey(new, text)

    def _end_others(self, records: Records, client_id: ClientId, *, keep: tuple[str, str]) -> None:
        now = self._clock.now()
        for key in records.keys.of_client(client_id):
            if key.key_id not in keep and key.is_live(now):
                records.keys.put(replace(key, revoked_at=now))

    def _other_operators(self, records: Records, key: ApiKey) -> bool:
        keys, now = records.keys.of_scope(Scope.OPERATOR), self._clock.now()
        return any(other.key_id != key.key_id and other.is_live(now) and other.expires_at is None for other in keys)

    def _note(self, records: Records, kind: str, key: ApiKey, **payload: Any) -> None:
        records.journal.append(kind, at=self._clock.now(), client_id=key.client_id, key_id=key.key_id, **payload)


def view_key(key: ApiKey, *, now: float) -> KeyView:
    """Return a key as it stands at a moment."""
    if key.revoked_at is not None:
        return KeyView(key, "revoked")
    return KeyView(key, "live" if key.is_live(now) else "expired")


def _lifetime(key: ApiKey) -> float | None:
    """Return for how many seconds a key that was not renewed yet was made."""
    return None if key.expires_at is None else key.expires_at - key.created_at
