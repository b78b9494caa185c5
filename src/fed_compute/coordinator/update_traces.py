"""Which trace each accepted update belongs to: kept in the journal, so that another process can go on with it."""

import json
from collections.abc import Collection, Mapping

from fed_compute.ids import RoundId, UpdateId
from fed_compute.protocol import tracing
from fed_compute.storage.sql.store import Store


class UpdateTraces:
    """Reads what the journal says of live rounds, each line once; while tracing is off, nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[RoundId, dict[UpdateId, str]] = {}
        self._read: dict[RoundId, int] = {}

    def of_round(self, round_id: RoundId) -> Mapping[UpdateId, str]:
        """Return the `traceparent` under which each update of a round was accepted, for those that had one."""
        if not tracing.is_on():
            return {}
        known = self._known.setdefault(round_id, {})
        with self._store.snapshot() as records:
            entries = records.journal.of_round(round_id, after=self._read.get(round_id, 0))
        for entry in entries:
            payload = json.loads(entry.payload)
            if entry.kind == "update_accepted" and tracing.HEADER in payload:
                known[UpdateId(payload["update_id"])] = payload[tracing.HEADER]
        self._read[round_id] = entries[-1].seq if entries else self._read.get(round_id, 0)
        return known

    def keep_only(self, live: Collection[RoundId]) -> None:
        """Forget every round but these, whoever ended it."""
        for round_id in self._known.keys() - set(live):
            del self._known[round_id], self._read[round_id]
