"""What the owner of this machine allows. `decide` is pure: facts in, a decision out.

Nothing here is believed because a coordinator says it: epochs, model size and digests are what the
client itself will work with. Only the size of the cohort and the number of auditors are the
coordinator's own word.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from fed_compute.client.hours import Hours
from fed_compute.client.recipes import max_spooled_bytes
from fed_compute.protocol.messages import MAX_NUM_SAMPLES, TaskAnswer

LOOK_AT_POWER_SECONDS = 60.0
"""How long to wait before asking again whether the machine is plugged in."""

_BYTES_PER_VALUE = 4
_MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Policy:
    """The owner's limits; None, or nothing named, is no limit. Each is the setting CLIENT_ and its name.

    `pinned_digests` are SHA-256 of model versions or of parameter schemas. `max_samples` counts own
    samples times local epochs. `max_training_seconds` is kept while training, not here.
    """

    jobs: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    pinned_digests: frozenset[str] = frozenset()
    min_cohort: int | None = None
    max_auditors: int | None = None
    min_samples: int | None = None
    min_steps: int | None = None
    max_local_epochs: int | None = None
    max_samples: int | None = None
    max_model_megabytes: float | None = None
    spool_megabytes: float | None = None
    max_training_seconds: float | None = None
    max_rounds_per_day: int | None = None
    hours: Hours | None = None
    ac_power_only: bool = False
    evaluate: bool = True
    audits: bool = True
    share_sample_count: bool = True
    max_sample_count: int = MAX_NUM_SAMPLES


@dataclass(frozen=True, slots=True)
class Asked:
    """What a task asks of this machine. `own_samples` are those that it would use.

    `spooled_bytes` is the most that its update takes on the disk until it is answered.
    """

    kind: Literal["train", "evaluate", "audit"]
    job: str
    model: str
    model_digest: str
    schema_digest: str
    num_parameters: int
    local_epochs: int
    batch_size: int
    own_samples: int
    min_updates: int | None
    auditors: int | None
    spooled_bytes: int
    report_steps: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """How many updates left this machine on `day`, its local date."""

    day: date | None = None
    updates: int = 0

    def on(self, day: date) -> int:
        """Return the number for a day."""
        return self.updates if self.day == day else 0


@dataclass(frozen=True, slots=True)
class Moment:
    """The present, as the owner's limits see it. `local` is the local time, without a time zone."""

    local: datetime
    on_battery: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """Nothing speaks against it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The limit `setting` forbids it. After `wait_seconds` it may not; None: it always will for this task."""

    setting: str
    reason: str
    wait_seconds: float | None = None


Decision = Allowed | Refused


def decide(task: Asked, policy: Policy, history: History, now: Moment) -> Decision:
    """Say whether a task may be done here and now. What always forbids it comes before what will pass."""
    return next(_against_task(task, policy), None) or decide_moment(policy, history, now)


def decide_moment(policy: Policy, history: History, now: Moment) -> Decision:
    """Say whether any task may be begun now, before one is asked for."""
    return next(_against_moment(policy, history, now), Allowed())


def decide_to_go_on(policy: Policy, now: Moment, *, seconds_trained: float) -> Decision:
    """Say whether a training that has taken `seconds_trained` so far may go on."""
    limit = policy.max_training_seconds
    if limit is not None and seconds_trained > limit:
        return Refused(
            "CLIENT_MAX_TRAINING_SECONDS", f"the training takes longer than CLIENT_MAX_TRAINING_SECONDS={limit:g}"
        )
    return next(_against_hours_and_power(policy, now), Allowed())


def asked_of(task: TaskAnswer, *, own_samples: int) -> Asked:
    """Return what a task asks of a machine that would use `own_samples` of its samples."""
    recipe = task.recipe
    num_parameters = sum(math.prod(shape) for _, shape in recipe.parameters)
    return Asked(
        kind=task.task,
        job=task.job,
        model=recipe.model,
        model_digest=task.model_digest,
        schema_digest=recipe.schema_digest,
        num_parameters=num_parameters,
        local_epochs=recipe.training.local_epochs,
        batch_size=recipe.training.batch_size,
        own_samples=own_samples,
        min_updates=task.min_updates,
        auditors=task.auditors,
        spooled_bytes=max_spooled_bytes(recipe, num_parameters=num_parameters),
        report_steps=recipe.training.report_steps,
    )


def _against_task(task: Asked, policy: Policy) -> Iterator[Refused]:
    yield from _against_job(task, policy)
    yield from _against_amount(task, policy)
    if task.kind == "train":
        yield from _against_training(task, policy)
    elif task.kind == "evaluate" and not policy.evaluate:
        yield Refused("CLIENT_EVALUATE", "this machine evaluates no models (CLIENT_EVALUATE, CLIENT_SHARE_LOSS)")
    elif task.kind == "audit" and not policy.audits:
        yield Refused("CLIENT_AUDITS", "this machine audits no updates (CLIENT_AUDITS, CLIENT_SHARE_LOSS)")


def _against_job(task: Asked, policy: Policy) -> Iterator[Refused]:
    if policy.jobs and task.job not in policy.jobs:
        yield _refused("JOBS", f"the job is {task.job}", f"allows {_listed(policy.jobs)}")
    if policy.models and task.model not in policy.models:
        yield _refused("MODELS", f"the model is {task.model!r}", f"allows {_listed(policy.models)}")
    if policy.pinned_digests and policy.pinned_digests.isdisjoint((task.model_digest, task.schema_digest)):
        yield _refused(
            "PINNED_DIGESTS",
            f"the model has version digest {task.model_digest[:16]}… and schema digest {task.schema_digest[:16]}…",
            "names neither",
        )


def _against_amount(task: Asked, policy: Policy) -> Iterator[Refused]:
    megabytes, most = task.num_parameters * _BYTES_PER_VALUE / _MEGABYTE, policy.max_model_megabytes
    if most is not None and megabytes > most:
        yield _refused("MAX_MODEL_MEGABYTES", f"the model has {megabytes:,.6g} MB", f"allows {most:g}")
    kept, room = task.spooled_bytes / _MEGABYTE, policy.spool_megabytes
    if task.kind == "train" and room is not None and kept > room:
        yield _refused("SPOOL_MEGABYTES", f"its update may take {kept:,.6g} MB on the disk", f"allows {room:g}")
    if policy.min_samples is not None and task.own_samples < policy.min_samples:
        yield _refused(
            "MIN_SAMPLES", f"only {task.own_samples} own samples would be used", f"wants {policy.min_samples}"
        )


def _against_training(task: Asked, policy: Policy) -> Iterator[Refused]:
    if policy.min_cohort is not None and (task.min_updates or 0) < policy.min_cohort:
        found = "does not say how few updates it averages"
        if task.min_updates is not None:
            found = f"may average as few as {task.min_updates} updates"
        yield _refused("MIN_COHORT", f"the round {found}", f"wants {policy.min_cohort}")
    most = policy.max_auditors
    if most is not None and (task.auditors is None or task.auditors > most):
        found = "does not say to how many clients it may show an update"
        if task.auditors is not None:
            found = f"may show an update to {task.auditors} other clients"
        yield _refused("MAX_AUDITORS", f"the job {found}", f"allows {most}")
    if task.report_steps:
        yield from _against_reported_steps(task, policy)
    if policy.max_local_epochs is not None and task.local_epochs > policy.max_local_epochs:
        yield _refused(
            "MAX_LOCAL_EPOCHS", f"{task.local_epochs} local epochs are asked for", f"allows {policy.max_local_epochs}"
        )
    work = task.local_epochs * task.own_samples
    if policy.max_samples is not None and work > policy.max_samples:
        yield _refused("MAX_SAMPLES", f"{work:,} samples times epochs are asked for", f"allows {policy.max_samples:,}")
    steps = task.local_epochs * -(-task.own_samples // task.batch_size)
    if policy.min_steps is not None and steps < policy.min_steps:
        yield _refused("MIN_STEPS", f"the update would come from {steps} training step(s)", f"wants {policy.min_steps}")


def _against_reported_steps(task: Asked, policy: Policy) -> Iterator[Refused]:
    """Steps tell about as much as samples do, and a wrong number of them would spoil the average."""
    found = "the job wants to know the number of steps, which tells the number of samples"
    most = policy.max_sample_count
    if not policy.share_sample_count:
        yield _refused("SHARE_SAMPLE_COUNT", found, "hides it")
    elif task.own_samples > most:
        yield _refused("MAX_SAMPLE_COUNT", f"{found}, here {task.own_samples:,}", f"tells at most {most:,}")


def _against_moment(policy: Policy, history: History, now: Moment) -> Iterator[Refused]:
    yield from _against_hours_and_power(policy, now)
    most, done = policy.max_rounds_per_day, history.on(now.local.date())
    if most is not None and done >= most:
        yield Refused(
            "CLIENT_MAX_ROUNDS_PER_DAY",
            f"{done} update(s) were sent today, CLIENT_MAX_ROUNDS_PER_DAY allows {most}; going on after midnight",
            wait_seconds=_seconds_to_midnight(now.local),
        )


def _against_hours_and_power(policy: Policy, now: Moment) -> Iterator[Refused]:
    if policy.hours is not None and not policy.hours.contains(now.local):
        opens = now.local + timedelta(seconds=policy.hours.seconds_until_open(now.local))
        yield Refused(
            "CLIENT_HOURS",
            f"it is outside CLIENT_HOURS={policy.hours}; going on at {opens:%H:%M}",
            wait_seconds=policy.hours.seconds_until_open(now.local),
        )
    if policy.ac_power_only and now.on_battery:
        yield Refused(
            "CLIENT_AC_POWER_ONLY",
            "the machine runs on its battery (CLIENT_AC_POWER_ONLY); going on when it is plugged in",
            wait_seconds=LOOK_AT_POWER_SECONDS,
        )


def _refused(name: str, found: str, limit: str) -> Refused:
    setting = f"CLIENT_{name}"
    return Refused(setting, f"{found}, {setting} {limit}")


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _seconds_to_midnight(local: datetime) -> float:
    midnight = datetime.combine(local.date() + timedelta(days=1), datetime.min.time())
    return (midnight - local).total_seconds()
