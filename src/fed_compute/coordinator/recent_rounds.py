"""What a job's last rounds tell about the next one."""

from collections.abc import Sequence
from functools import partial

from fed_compute.coordinator.remembered import Remembered
from fed_compute.ids import JobId, RoundId
from fed_compute.rounds.records import TaskKind, TaskState
from fed_compute.rounds.selection import report_fraction
from fed_compute.storage.sql.store import Records

RECENT_ROUNDS = 10
"""How many ended rounds the measured dropout and the measured times look back."""

RECENT_UPDATES = 1_000
"""The most updates of those rounds whose times are looked at, the newest first."""

DROPPED = (TaskState.EXPIRED, TaskState.RELEASED, TaskState.OVERDUE)
"""What counts as a dropout when slots are planned, be the client to blame or not."""

_MOST = 256
"""How many rounds are remembered at once."""


class RecentRounds:
    """Reads the last rounds of a job, each once: nothing that is measured of a round changes after its end.

    Ask in the transaction that opens a round. The last one may have ended in the same, which may be undone, so it is
    not remembered before the next one asks.
    """

    def __init__(self) -> None:
        self._seconds = Remembered[RoundId, Sequence[float]](_MOST)
        self._counts = Remembered[RoundId, tuple[int, int]](_MOST)

    def seconds(self, records: Records, job_id: JobId) -> list[float]:
        """Return how long the newest updates of the rounds took, from lease to arrival."""
        seconds: list[float] = []
        for place, ended in enumerate(records.rounds.recent_closed_ids(job_id, limit=RECENT_ROUNDS)):
            read = partial(records.measured.seconds_of_round, ended, limit=RECENT_UPDATES)
            if len(seconds) < RECENT_UPDATES:
                seconds += self._seconds.of(ended, read) if place else read()
        return seconds[:RECENT_UPDATES]

    def report_fraction(self, records: Records, job_id: JobId) -> float:
        """Return which share of the leases of the rounds, which were no buffers, ended with a report."""
        reported = dropped = 0
        for place, ended in enumerate(records.rounds.recent_closed_ids(job_id, limit=RECENT_ROUNDS)):
            read = partial(_outcomes, records, ended)
            more_reported, more_dropped = self._counts.of(ended, read) if place else read()
            reported, dropped = reported + more_reported, dropped + more_dropped
        return report_fraction(reported=reported, dropped=dropped)


def _outcomes(records: Records, round_id: RoundId) -> tuple[int, int]:
    """Return how many leases of a round that is no buffer were reported, and how many dropped. All of them have ended.

    One whose update comes after all stays on its side.
    """
    counts = records.tasks.count(round_id, TaskKind.TRAIN)
    return counts.get(TaskState.REPORTED, 0), sum(counts.get(state, 0) for state in DROPPED)
