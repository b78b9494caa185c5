"""Reads the journal and keeps what each client's past says about it."""

import dataclasses
from typing import Any

from fed_compute.coordinator.journal_reader import Payload, State, catch_up
from fed_compute.errors import ClientNotFound
from fed_compute.ids import ClientId
from fed_compute.rounds.records import Entry, TaskKind
from fed_compute.rounds.scoring import Measures, Standing, measure
from fed_compute.storage.sql.store import Records, Store

READER = "reputation"


@dataclasses.dataclass(frozen=True, slots=True)
class Reputation:
    """A client's counts and the measures drawn from them."""

    client_id: ClientId
    standing: Standing
    measures: Measures


class ReputationManager:
    """Folds the journal through `rounds.scoring`. Nobody on an update's way calls it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def catch_up(self) -> bool:
        """Take in what the journal has that was not seen yet."""
        return catch_up(self._store, READER, _fold)

    def all(self) -> list[Reputation]:
        """Return every registered client's reputation, by client id."""
        self.catch_up()
        with self._store.snapshot() as records:
            _, state = records.journal.cursor(READER)
            known = records.standings.all()
            return [_reputation(c.client_id, known.get(c.client_id), state) for c in records.clients.all()]

    def of(self, client_id: str) -> Reputation:
        """Return one client's reputation.

        Raises:
            ClientNotFound: if no such client is registered.
        """
        self.catch_up()
        with self._store.snapshot() as records:
            if records.clients.find(ClientId(client_id)) is None:
                raise ClientNotFound(client_id)
            _, state = records.journal.cursor(READER)
            return _reputation(ClientId(client_id), records.standings.get(client_id), state)


def _reputation(client_id: ClientId, kept: Any, state: Any) -> Reputation:
    standing = Standing(**kept) if kept else Standing()
    return Reputation(client_id, standing, measure(standing, rounds_closed=state.get("rounds_closed", 0)))


def _fold(records: Records, entry: Entry, payload: Payload, state: State) -> None:
    closed = state.setdefault("rounds_closed", 0)
    if entry.kind == "round_closed":
        state["rounds_closed"] = closed + 1
    if entry.client_id is None or payload.get("task", TaskKind.TRAIN) != TaskKind.TRAIN:
        return
    kept = records.standings.get(entry.client_id)
    before = Standing(**kept) if kept else Standing()
    match entry.kind:
        case "task_assigned":
            after = before.assigned(rounds_closed=closed)
        case "update_accepted":
            after = before.accepted(latency_seconds=payload["latency_seconds"])
        case "update_refused":
            after = before.refused()
        case "update_late":
            after = before.late()
        case "task_expired":
            after = before.dropped()
        case _:
            return
    records.standings.put(entry.client_id, dataclasses.asdict(after))
