"""Answers how a round went in time: when it started, who took how long, who came too late."""

import json
from dataclasses import dataclass

from fed_compute.clock import Clock
from fed_compute.errors import RoundNotFound
from fed_compute.ids import ClientId, RoundId
from fed_compute.rounds.records import Round
from fed_compute.storage.sql.store import Store


@dataclass(frozen=True, slots=True)
class Arrival:
    """One update's client, how long it took from lease to arrival, in seconds, and how many versions it was behind.

    Of one that came too late it is not told how far behind it was.
    """

    client_id: ClientId
    latency_seconds: float
    staleness: int | None = None


@dataclass(frozen=True, slots=True)
class AsyncRoundStats:
    """The timing of one round. `elapsed_seconds` stops when the round ends, and does not count its pauses."""

    round: Round
    elapsed_seconds: float | None
    arrivals: list[Arrival]
    stragglers: list[Arrival]

    @property
    def min_updates_reached(self) -> bool:
        """Whether enough updates for closing have come."""
        return len(self.arrivals) >= self.round.min_updates

    @property
    def max_duration_reached(self) -> bool:
        """Whether the round lasted as long as it may."""
        return self.elapsed_seconds is not None and self.elapsed_seconds >= self.round.deadline_seconds


class AsyncRoundManager:
    """Reads one round's history from the journal. When a round closes is `rounds.machine`'s decision."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def stats(self, round_id: RoundId) -> AsyncRoundStats:
        """Return the timing of a round, synchronous ones too.

        Raises:
            RoundNotFound: if there is no such round.
        """
        with self._store.snapshot() as records:
            round_ = records.rounds.find(round_id)
            if round_ is None:
                raise RoundNotFound(round_id)
            entries = records.journal.of_round(round_id)
        by_kind: dict[str, list[Arrival]] = {"update_accepted": [], "update_late": []}
        for entry in entries:
            if entry.kind in by_kind and entry.client_id is not None:
                payload = json.loads(entry.payload)
                arrival = Arrival(entry.client_id, payload["latency_seconds"], payload.get("staleness"))
                by_kind[entry.kind].append(arrival)
        return AsyncRoundStats(
            round=round_,
            elapsed_seconds=round_.lasted_seconds(now=self._clock.now()),
            arrivals=by_kind["update_accepted"],
            stragglers=by_kind["update_late"],
        )
