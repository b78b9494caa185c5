"""How much work could be handed out now, whoever asks for it."""

from fed_compute.coordinator.recipes import spec_of
from fed_compute.rounds.records import (
    RESTING_JOB_STATES,
    Job,
    JobState,
    Round,
    RoundState,
    TaskKind,
    TaskState,
    Version,
)
from fed_compute.storage.sql.store import Records, Store


def free_slots(records: Records, round_: Round, *, now: float) -> int:
    """Return how many more leases of a round may go out; a lease past its soft deadline holds no slot."""
    if round_.state not in (RoundState.OPEN, RoundState.COLLECTING):
        return 0
    if round_.deadline is not None and now >= round_.deadline:
        return 0  # nobody has looked at the round yet; a lease would be over before it began
    taken = records.leases.count(round_.job_id) if round_.is_buffer else _taken(records, round_, TaskKind.TRAIN)
    return max(0, round_.slots - taken + records.measured.count_overtime(round_.job_id, now=now))


def due_evaluation(records: Records, job: Job) -> tuple[Round, Version] | None:
    """Return the newest version and its round, if clients should measure it and not enough of them have or do."""
    rules, version = spec_of(job).evaluation, records.versions.latest(job.job_id)
    if version.round_id is None or rules.every_rounds == 0:
        return None
    round_ = records.rounds.get(version.round_id)
    if round_.number % rules.every_rounds != 0 and job.state is not JobState.FINISHED:
        return None
    return (round_, version) if evaluation_slots(records, job, round_) > 0 else None


def evaluation_slots(records: Records, job: Job, round_: Round) -> int:
    """Return how many more clients may measure the version that a round made."""
    return max(0, spec_of(job).evaluation.max_clients - _taken(records, round_, TaskKind.EVALUATE))


def num_openings(store: Store, *, now: float) -> int:
    """Return how many waiting clients may find work now, at most; 0 says that it is of no use to let any look."""
    with store.snapshot() as records:
        return sum(_openings_of(records, job, now=now) for job in records.jobs.all())


def _openings_of(records: Records, job: Job, *, now: float) -> int:
    if job.state in RESTING_JOB_STATES:
        return 0
    openings, live = 0, records.rounds.live(job.job_id)
    if live is not None:
        openings += free_slots(records, live, now=now)
    if (due := due_evaluation(records, job)) is not None:
        openings += evaluation_slots(records, job, due[0])
    return openings + spec_of(job).audits.auditors * records.audits.count_open(job.job_id)


def _taken(records: Records, round_: Round, kind: TaskKind) -> int:
    counts = records.tasks.count(round_.round_id, kind)
    return counts.get(TaskState.LEASED, 0) + counts.get(TaskState.REPORTED, 0)
