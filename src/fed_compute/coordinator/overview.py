"""What an operator wants to see at a glance: every job, how it stands, who is here, what was refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.ids import JobId
from fed_compute.rounds.records import Job, Round, TaskKind, TaskState
from fed_compute.storage.sql.curves import RoundPoint
from fed_compute.storage.sql.store import Records, Store

LONGEST_CURVE = 1_000
"""Rounds of a job that are shown at once; of a longer job the newest."""


@dataclass(frozen=True, slots=True)
class LiveRound:
    """A round that is not over: what has arrived, and how many machines work on it now."""

    round: Round
    num_updates: int
    num_leased: int


@dataclass(frozen=True, slots=True)
class JobStanding:
    """One job in short. `measured` is its newest round with an accuracy or a loss on held-out data, if there is one."""

    job: Job
    description: str
    num_parameters: int
    rounds_total: int
    rounds_closed: int
    latest_version: int
    live: LiveRound | None
    measured: RoundPoint | None


def standings_of_jobs(store: Store, *, recent: int = 50) -> Sequence[JobStanding]:
    """Return every job, newest first; quality is looked for in the last `recent` rounds of each."""
    with store.snapshot() as records:
        return [_standing(records, job, recent=recent) for job in reversed(records.jobs.all())]


def standing_of_job(store: Store, job: Job, *, recent: int = 50) -> JobStanding:
    """Return one job in short."""
    with store.snapshot() as records:
        return _standing(records, job, recent=recent)


def updates_since(store: Store, moment: float) -> int:
    """Return how many updates came at or after a moment, of the newest ten thousand."""
    with store.snapshot() as records:
        return records.curves.count_received_since(moment, among=10_000)


def course_of(store: Store, job_id: JobId) -> Sequence[RoundPoint]:
    """Return the rounds of a job, oldest first, at most `LONGEST_CURVE`."""
    with store.snapshot() as records:
        return records.curves.of_job(job_id, limit=LONGEST_CURVE)


def _standing(records: Records, job: Job, *, recent: int) -> JobStanding:
    spec, live = spec_of(job), records.rounds.live(job.job_id)
    points = records.curves.of_job(job.job_id, limit=recent)
    return JobStanding(
        job=job,
        description=spec.description,
        num_parameters=schema_of(job).num_parameters,
        rounds_total=spec.rounds.total,
        rounds_closed=records.rounds.count_closed(job.job_id),
        latest_version=records.versions.latest(job.job_id).version,
        live=None if live is None else _live(records, live),
        measured=next((point for point in reversed(points) if point.num_evaluations), None),
    )


def _live(records: Records, round_: Round) -> LiveRound:
    counts = records.tasks.count(round_.round_id, TaskKind.TRAIN)
    return LiveRound(round_, records.updates.count(round_.round_id), counts.get(TaskState.LEASED, 0))
