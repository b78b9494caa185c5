"""The job file: everything a training run is, as data.

One TOML file serves `job create`, `serve --job` and `demo`. Unknown keys are an error that names
the nearest known key, because a misspelt privacy or aggregation key must never be ignored.
"""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from fed_compute.errors import JobFileInvalid
from fed_compute.ids import is_job_name
from fed_compute.protocol.aggregation_section import LARGEST_ROUND, AggregationSection
from fed_compute.protocol.architectures import BUILT_IN, built_in_schema
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.protocol.section import Fraction, Positive, explain, key_of
from fed_compute.protocol.section import Section as _Section

Loss = Literal["cross_entropy", "mse"]
ClientOptimizer = Literal["sgd", "adam", "adamw"]
Encoding = Literal["f32", "bf16", "f16", "int8", "topk"]
Compression = Literal["none", "zstd"]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
MAX_NUM_SAMPLES = 10_000_000
"""The largest sample count one update may claim. Also keeps count × float32 exact in float64."""
MAX_NUM_STEPS = 1_000 * MAX_NUM_SAMPLES
"""The largest number of steps that one update may claim: as many epochs as a job can have, of single samples."""


class ModelSection(_Section):
    """Which model, and its arguments. Built-in names are checked here, plug-ins by their schema."""

    name: str = Field(min_length=1, max_length=80, description="Name in the registry of models, built-in or plug-in.")
    args: dict[str, Any] = Field(default_factory=dict, description="Arguments of the model.")


DIGITS_MODEL = ModelSection(name="simple_mlp", args={"input_dim": 64, "hidden_dim": 32, "output_dim": 10})


class TrainingSection(_Section):
    """What a client does with its own data in one task.

    `proximal_mu` is the μ of FedProx (Li et al. 2020, arXiv:1812.06127): each step's gradient gets μ (w - w₀), where w₀
    is the global model. At 0, where it changes nothing, it is not written either: then clients from before it was
    there understand the task, and otherwise they refuse it. So it is with `report_steps`: an update says how many
    steps it took, which tells about as much as the number of samples does. `control_variates` is β, not written at
    0 either: each step's gradient gets β (c - cᵢ) of SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378).
    """

    loss: Loss = Field(default="cross_entropy", description="What a client makes small.")
    optimizer: ClientOptimizer = Field(default="sgd", description="Optimiser on the client; new in each task.")
    lr: Positive = Field(default=0.1, description="Step size on the client.")
    momentum: Fraction = Field(default=0.0, description="Momentum of `sgd` on the client.")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False, description="Pull of weights to 0.")] = 0.0
    batch_size: Annotated[int, Field(ge=1, le=1_000_000, description="Samples in one step.")] = 32
    local_epochs: Annotated[int, Field(ge=1, le=1_000, description="Passes over the client's data in one task.")] = 1
    max_grad_norm: Positive | None = Field(
        default=None, description="Largest L2 norm of a gradient; none if not given."
    )
    proximal_mu: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, exclude_if=lambda mu: mu == 0, description="μ of FedProx."
    )
    report_steps: bool = Field(
        default=False, exclude_if=lambda reported: not reported, description="Updates say how many steps they took."
    )
    control_variates: float = Field(
        default=0.0, ge=0, le=1, allow_inf_nan=False, exclude_if=lambda beta: beta == 0, description="β of SCAFFOLD."
    )

    def num_steps(self, num_samples: int) -> int:
        """Return how many steps a client takes that has so many samples to train on."""
        return self.local_epochs * -(-num_samples // self.batch_size)

    @model_validator(mode="after")
    def _pull_is_no_push(self) -> Self:
        limit = 2 * (1 + self.momentum)
        if self.optimizer == "sgd" and (step := self.lr * self.proximal_mu) >= limit:
            raise ValueError(
                f"lr · proximal_mu is {step:g}: from 2 · (1 + momentum) = {limit:g} on the pull to the global model "
                "overshoots it by more each step; lower one of them"
            )
        return self


class RoundsSection(_Section):
    """When a round starts, closes or is given up.

    A round begins when `start_fraction` · `target_updates` clients are there, and at the latest
    `start_wait_seconds` after the first of them asked; 0 waits for nobody.

    Under `fedbuff` a round is a buffer of `target_updates` updates, which make the next version; up to
    `concurrency` clients work at once, whatever version they started from, and an update may come as late
    as `max_staleness` versions after its own. None takes 4 · target_updates for the one and 4 times the
    expected staleness for the other.
    """

    total: Count = Field(default=20, description="Rounds to close; then the job is finished.")
    target_updates: Count = Field(default=10, description="Updates that close a round at once.")
    min_updates: Count = Field(
        default=2, description="Fewest updates at the deadline; with fewer the round is given up."
    )
    over_selection: Literal["auto"] | Annotated[float, Field(ge=1, le=10)] = Field(
        default="auto", description="Tasks handed out for each update wanted; `auto` follows measured dropout."
    )
    deadline_seconds: Positive = Field(default=300.0, description="From a round's first task to its end.")
    start_fraction: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of `target_updates` clients that must be there before the first task.",
    )
    start_wait_seconds: Positive = Field(default=60.0, description="Longest wait for them.")
    mode: Literal["sync", "async", "fedbuff"] = Field(
        default="sync", description="`sync`: rounds; `async`: rounds by minimum or time; `fedbuff`: buffers of updates."
    )
    concurrency: Count | None = Field(default=None, description="Clients at work at once under `fedbuff`.")
    max_staleness: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        default=None, description="Versions that an update may be behind under `fedbuff`."
    )

    @model_validator(mode="after")
    def _every_number_has_a_use(self) -> Self:
        if self.mode == "fedbuff" and self.over_selection != "auto":
            raise ValueError(
                "over_selection has no use in mode 'fedbuff', which never waits; concurrency says how many"
            )
        for name in ("concurrency", "max_staleness"):
            if self.mode != "fedbuff" and getattr(self, name) is not None:
                raise ValueError(f"{name} has no use in mode {self.mode!r}; it belongs to mode 'fedbuff'")
        return self

    @model_validator(mode="after")
    def _minimum_within_target(self) -> Self:
        if self.min_updates > self.target_updates:
            raise ValueError(
                f"min_updates {self.min_updates} is above target_updates {self.target_updates}; "
                "a round could never close at its target"
            )
        return self


class PrivacySection(_Section):
    """What the coordinator may see, how long an update may be, and how much one may weigh.

    `adaptive_norm_limit` lowers the limit on the norm to what the updates of the last rounds make
    likely. `max_num_samples` is the largest sample count that an update may claim.
    """

    mode: Literal["open"] = Field(default="open", description="`open`: the coordinator sees each update.")
    max_update_norm: Positive | None = Field(default=None, description="Largest L2 norm of an update.")
    adaptive_norm_limit: bool = Field(default=True, description="Lower that limit by the updates of the last rounds.")
    max_num_samples: Annotated[int, Field(ge=1, le=MAX_NUM_SAMPLES)] | None = Field(
        default=None, description="Largest sample count that an update may claim."
    )


class WireSection(_Section):
    """How an update travels."""

    encoding: Encoding = Field(default="f32", description="How numbers are written; all but `f32` lose some.")
    compression: Compression = Field(default="none", description="Compression around the whole.")
    topk_fraction: float = Field(default=0.01, gt=0, le=1, description="Share of values that `topk` sends.")


class EvaluationSection(_Section):
    """Federated evaluation on clients' held-out data."""

    every_rounds: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=1, description="Measure every so many versions; 0 never."
    )
    max_clients: Count = Field(default=20, description="Most clients that measure one version.")
    holdout_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Share of its data that a client never trains on."
    )


class AuditSection(_Section):
    """Looks at updates by other clients. Each one shows a single update to strangers, so it is off unless asked for."""

    auditors: int = Field(default=0, ge=0, le=15, description="Clients that measure one update; 0 shows it to nobody.")


class JobSpec(_Section):
    """A whole job. `schema` describes a plug-in model's parameters; built-in models need none."""

    name: str = Field(default="default", description="Lower-case letters, digits, - and _, at most 64.")
    description: str = Field(default="", max_length=2_000, description="What volunteers read about it.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="First weights and the order of samples follow from it.")
    model: ModelSection = DIGITS_MODEL
    training: TrainingSection = Field(default_factory=TrainingSection)
    rounds: RoundsSection = Field(default_factory=RoundsSection)
    aggregation: AggregationSection = Field(default_factory=AggregationSection)
    privacy: PrivacySection = Field(default_factory=PrivacySection)
    wire: WireSection = Field(default_factory=WireSection)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    audits: AuditSection = Field(default_factory=AuditSection)

    @model_validator(mode="after")
    def _audits_need_open_updates(self) -> Self:
        if self.audits.auditors and self.privacy.mode != "open":
            raise ValueError(
                f"audits.auditors is {self.audits.auditors}, but privacy.mode {self.privacy.mode!r} hides single "
                "updates; set auditors to 0, or mode to open"
            )
        return self

    @model_validator(mode="after")
    def _only_buffers_know_stale_updates(self) -> Self:
        if self.aggregation.damp_stale and self.rounds.mode != "fedbuff":
            raise ValueError(
                f"aggregation.damp_stale has no use in rounds.mode {self.rounds.mode!r}, where no update is stale; "
                "it belongs to mode 'fedbuff'"
            )
        return self

    @model_validator(mode="after")
    def _steps_are_told_where_they_count(self) -> Self:
        training = self.training
        if not self.aggregation.uses_steps:
            return self
        if not training.report_steps:
            raise ValueError("fednova counts the steps behind each update; set training.report_steps to true")
        if training.optimizer != "sgd":
            raise ValueError(f"fednova knows what steps of sgd add up to, not those of {training.optimizer!r}")
        pull, most = training.lr * training.proximal_mu, (1 - math.sqrt(training.momentum)) ** 2
        if pull > most:
            raise ValueError(
                f"lr · proximal_mu is {pull:g}; fednova knows what steps add up to only as far as it is at most "
                f"(1 - √momentum)² = {most:g}"
            )
        return self

    @model_validator(mode="after")
    def _control_variates_find_what_they_need(self) -> Self:
        training, used = self.training, self.training.control_variates > 0
        if not used and self.aggregation.control_fraction != 1.0:
            raise ValueError("aggregation.control_fraction has no use without training.control_variates")
        needs = {
            "training.report_steps = true": training.report_steps,
            "training.optimizer = 'sgd'": training.optimizer == "sgd",
            "training.momentum = 0": training.momentum == 0,
            "training.proximal_mu = 0": training.proximal_mu == 0,
            "rounds.mode = 'sync'": self.rounds.mode == "sync",
        }
        missing = [need for need, is_met in needs.items() if not is_met]
        if used and missing:
            raise ValueError(f"training.control_variates needs {', '.join(missing)}, or set it to 0")
        return self

    @property
    def counts_steps(self) -> bool:
        """Whether it matters how many local steps are behind each update."""
        return self.aggregation.uses_steps or self.training.control_variates > 0

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if not is_job_name(name):
            raise ValueError(f"{name[:80]!r} is not a job name: lower-case letters, digits, - and _, at most 64")
        return name

    @model_validator(mode="after")
    def _rounds_are_large_enough_for_the_rule(self) -> Self:
        aggregation, given = self.aggregation, self.rounds.min_updates
        least = aggregation.least_updates()
        told = f"rule {aggregation.rule!r}" + (f" with f = {aggregation.f}" if aggregation.uses_f else "")
        told += f" behind {', '.join(aggregation.pre)}" if aggregation.pre else ""
        if least is None:
            raise ValueError(f"{told} holds in no round of up to {LARGEST_ROUND} updates; lower f or bucket_size")
        if given < least:
            raise ValueError(
                f"{told} protects nobody in a round of fewer than {least} updates and rounds.min_updates is {given}; "
                f"set rounds.min_updates to {least} or more, or choose another rule"
            )
        return self

    def schema_of_model(self) -> ParameterSchema:
        """Return the parameters of the job's built-in model.

        Raises:
            JobFileInvalid: if the model is not built in or its arguments do not fit.
        """
        return built_in_schema(self.model.name, self.model.args)


def default_job() -> JobSpec:
    """Return the job that is served when none is given: digits, going on with one client and with fifty."""
    return JobSpec(
        description="Handwritten digits, 8×8 pixels; goes on with one client and with fifty.",
        rounds=RoundsSection(total=100, min_updates=1),
    )


def parse_job(data: Mapping[str, Any]) -> JobSpec:
    """Check a job given as plain data.

    Raises:
        JobFileInvalid: naming the key, what was found, and the nearest known key if the key is unknown.
    """
    try:
        spec = JobSpec.model_validate(data)
    except ValidationError as error:
        raise JobFileInvalid(explain(error, JobSpec, whole="job"), key=key_of(error)) from error
    if spec.model.name in BUILT_IN:
        spec.schema_of_model()
    return spec


def parse_job_text(text: str) -> JobSpec:
    """Read a job from TOML text.

    Raises:
        JobFileInvalid: if it is not TOML, or not a job.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and endless brackets
        raise JobFileInvalid(f"the job file is not TOML: {error}") from error
    return parse_job(data)


def load_job(path: Path) -> JobSpec:
    """Read a job file.

    Raises:
        JobFileInvalid: if it cannot be read, is not TOML, or is not a job. The message names the file.
    """
    try:
        return parse_job_text(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise JobFileInvalid(f"job file {path} cannot be read: {error}") from error
    except JobFileInvalid as error:
        raise JobFileInvalid(f"{path}: {error.message}", **error.details) from error


def job_given(job: JobSpec | Mapping[str, Any] | str | Path) -> JobSpec:
    """Return a job that is given as such, as plain data, or by the path of a file.

    Raises:
        JobFileInvalid: as `parse_job` and `load_job`.
    """
    match job:
        case JobSpec():
            return job
        case str() | Path():
            return load_job(Path(job))
    return parse_job(job)
