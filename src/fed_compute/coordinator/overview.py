"""What an operator wants to see at a glance: every job, how it stands, who is here, what was refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from fed_compute.coordinator.courses import CoursePoint, thinned
from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.ids import JobId
from fed_compute.rounds.records import Job, JobState, Round, RoundState, TaskKind, TaskState, Version
from fed_compute.storage.sql.curves import RoundPoint
from fed_compute.storage.sql.rounds import NO_ROUND
from fed_compute.storage.sql.store import Records, Store

LONGEST_CURVE = 1_000
"""Rounds of a job that are shown at once; of a longer job the newest."""
RECENT_ROUNDS = 50
"""Rounds of a job in which its quality is looked for."""

_IN_VIEW = (JobState.RUNNING, JobState.PAUSED, JobState.FINISHED, JobState.STOPPED)


@dataclass(frozen=True, slots=True)
class LiveRound:
    """A round that is not over: what has arrived, and how many machines work on it now."""

    round: Round
    num_updates: int
    num_leased: int


@dataclass(frozen=True, slots=True)
class JobStanding:
    """One job in short. `recent` are its last rounds, oldest first.

    `measured` is the newest of them with an accuracy or a loss on held-out data, if there is one.
    """

    job: Job
    description: str
    num_parameters: int
    rounds_total: int
    rounds_closed: int
    latest_version: int
    live: LiveRound | None
    recent: Sequence[RoundPoint]

    @property
    def measured(self) -> RoundPoint | None:
        """The newest round that was measured."""
        return next((point for point in reversed(self.recent) if point.num_evaluations), None)


@dataclass(frozen=True, slots=True)
class Course:
    """How a job went, as points that stand for `num_rounds` closed rounds."""

    num_rounds: int
    points: Sequence[CoursePoint]


def jobs_in_view(store: Store) -> list[Job]:
    """Return every job: those that go on first, newest first among them, then those that are over."""
    with store.snapshot() as records:
        return sorted(records.jobs.all(), key=lambda job: (_IN_VIEW.index(job.state), -job.job_id))


def standings_of(store: Store, jobs: Sequence[Job]) -> list[JobStanding]:
    """Return some jobs in short, in their order. Costs seven statements for each."""
    with store.snapshot() as records:
        return [_standing(records, job) for job in jobs]


def updates_since(store: Store, moment: float) -> int:
    """Return how many updates came at or after a moment, of the newest ten thousand."""
    with store.snapshot() as records:
        return records.curves.count_received_since(moment, among=10_000)


def rounds_of(store: Store, job_id: JobId, *, limit: int, before: int | None = None) -> Sequence[RoundPoint]:
    """Return the last rounds of a job before the round `before`, oldest first, at most `limit`."""
    with store.snapshot() as records:
        return records.curves.of_job(job_id, limit=limit, before=NO_ROUND if before is None else before)


def course_of(store: Store, job_id: JobId) -> Course:
    """Return the closed ones of a job's last rounds, thinned to what a chart can show."""
    closed = [point for point in rounds_of(store, job_id, limit=LONGEST_CURVE) if point.state is RoundState.CLOSED]
    return Course(len(closed), thinned(closed))


def lineage_of(store: Store, job_id: JobId, *, limit: int, before: int | None = None) -> Sequence[Version]:
    """Return a job's versions before version `before`, newest first, at most `limit`."""
    with store.snapshot() as records:
        return records.versions.page(job_id, limit=limit, before=before)


def _standing(records: Records, job: Job) -> JobStanding:
    spec, live = spec_of(job), records.rounds.live(job.job_id)
    return JobStanding(
        job=job,
        description=spec.description,
        num_parameters=schema_of(job).num_parameters,
        rounds_total=spec.rounds.total,
        rounds_closed=records.rounds.count_closed(job.job_id),
        latest_version=records.versions.latest(job.job_id).version,
        live=None if live is None else _live(records, live),
        recent=records.curves.of_job(job.job_id, limit=RECENT_ROUNDS),
    )


def _live(records: Records, round_: Round) -> LiveRound:
    counts = records.tasks.count(round_.round_id, TaskKind.TRAIN)
    return LiveRound(round_, records.updates.count(round_.round_id), counts.get(TaskState.LEASED, 0))
