"""How often clients without work should ask: counted from the records, at most every few seconds."""

from statistics import median

from fed_compute.clock import Clock
from fed_compute.rounds.pacing import SHORTEST_WIDTH_SECONDS, Demand, Window, window_for
from fed_compute.rounds.records import Job, JobState
from fed_compute.storage.sql.store import Records

POPULATION_SECONDS = 3600.0
"""Whoever was heard of within this time of the coordinator's life counts as one of the clients."""
LOOK_SECONDS = 5.0
RECENT_ROUNDS = 10
SHORTEST_ROUND_SECONDS = 1.0


class Pace:
    """Keeps the last answer in memory, which any process finds again by looking."""

    def __init__(self, clock: Clock, *, checkins_per_second: float) -> None:
        self._clock = clock
        self._checkins_per_second = checkins_per_second
        self._resumed_at = self._stopped_at = float("-inf")
        self._looked_at = float("-inf")
        self._window = Window.of_width(SHORTEST_WIDTH_SECONDS)

    def resume(self, records: Records) -> None:
        """Note that the coordinator was away since the last client was heard of: it counts as no time at all.

        Else the first clients that come back after an outage would be taken for the only ones.
        """
        self._resumed_at = self._clock.now()
        self._stopped_at = min(records.measured.last_sign_of_life() or self._resumed_at, self._resumed_at)
        self._looked_at = float("-inf")

    def window(self, records: Records) -> Window:
        """Return when a client that finds no work should ask again."""
        if self._clock.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = self._clock.monotonic()
            jobs = [job for job in records.jobs.all() if job.state is JobState.RUNNING]
            self._window = window_for(
                records.clients.count(seen_since=self._population_since()),
                sum((_demand_of(records, job) for job in jobs), Demand()),
                checkins_per_second=self._checkins_per_second,
            )
        return self._window

    def last_window(self) -> Window:
        """Return the window without a look at the records, for a moment when there is no time for one."""
        return self._window

    def _population_since(self) -> float:
        now = self._clock.now()
        if now - self._resumed_at >= POPULATION_SECONDS:
            return now - POPULATION_SECONDS
        return self._stopped_at - (POPULATION_SECONDS - (now - self._resumed_at))


def _demand_of(records: Records, job: Job) -> Demand:
    live = records.rounds.live(job.job_id)
    if live is None:
        return Demand()
    took = records.measured.round_seconds(job.job_id, num_rounds=RECENT_ROUNDS)
    seconds = median(took) if took else live.deadline_seconds
    return Demand(live.slots, live.slots / max(SHORTEST_ROUND_SECONDS, seconds))
