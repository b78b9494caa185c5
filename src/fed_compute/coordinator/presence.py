"""Who was heard of lately, and which key was used: collected in memory, written in batches."""

import threading

from fed_compute.clock import Clock
from fed_compute.ids import ClientId
from fed_compute.storage.sql.store import Store


class Presence:
    """Notes each sign of life and writes them at most every `flush_seconds`: a poll costs no disk sync."""

    def __init__(self, store: Store, clock: Clock, *, flush_seconds: float = 2.0) -> None:
        self._store = store
        self._clock = clock
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._seen: dict[ClientId, float] = {}
        self._used: dict[str, float] = {}
        self._flushed_at = float("-inf")

    def note(self, client_id: ClientId) -> None:
        """Record that a client was heard of now."""
        with self._lock:
            self._seen[client_id] = self._clock.now()

    def note_key(self, key_id: str) -> None:
        """Record that a key was used now."""
        with self._lock:
            self._used[key_id] = self._clock.now()

    def flush(self) -> bool:
        """Write what was noted, if it is time. Say whether anything was written."""
        now = self._clock.monotonic()
        with self._lock:
            if not (self._seen or self._used) or now - self._flushed_at < self._flush_seconds:
                return False
            seen, used, self._seen, self._used, self._flushed_at = self._seen, self._used, {}, {}, now
        with self._store.transaction() as records:
            if seen:
                records.clients.mark_seen(seen)
            if used:
                records.keys.mark_used(used)
        return True
