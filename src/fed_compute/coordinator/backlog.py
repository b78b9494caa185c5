"""How much waits to be done: rounds to fold, leases that are out, journal entries that readers have not seen."""

from collections.abc import Mapping
from dataclasses import dataclass

from fed_compute.rounds.records import LIVE_ROUND_STATES, RoundState
from fed_compute.storage.sql.store import Store


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits at one moment. `behind` is how many entries each reader of the journal has yet to see."""

    rounds_live: int
    rounds_to_fold: int
    leases: int
    entries: int
    behind: Mapping[str, int]


def backlog_of(store: Store) -> Backlog:
    """Return what waits now. Costs a few statements, however much waits."""
    with store.snapshot() as records:
        live, last = records.rounds.in_states(LIVE_ROUND_STATES), records.journal.last_seq()
        return Backlog(
            rounds_live=len(live),
            rounds_to_fold=sum(round_.state is RoundState.AGGREGATING for round_ in live),
            leases=records.leases.count_all(),
            entries=last,
            behind={reader: last - seq for reader, seq in records.journal.cursors().items()},
        )
