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
MAX_NUM_SAMPLES = 10_000_000
"""The largest sample count one update may claim. Also keeps count × float32 exact in float64."""
MAX_NUM_STEPS = 1_000 * MAX_NUM_SAMPLES
"""The largest number of steps that one update may claim: as many epochs as a job can have, of single samples."""


class ModelSection(_Section):
    """Which model, and its arguments. Built-in names are checked here, plug-ins by their schema."""

    name: str = Field(min_length=1, max_length=80)
    args: dict[str, Any] = Field(default_factory=dict)


DIGITS_MODEL = ModelSection(name="simple_mlp", args={"input_dim": 64, "hidden_dim": 32, "output_dim": 10})


class TrainingSection(_Section):
    """What a client does with its own data in one task.

    `proximal_mu` is the μ of FedProx (Li et al. 2020, arXiv:1812.06127): each step's gradient gets μ (w - w₀), where w₀
    is the global model. At 0, where it changes nothing, it is not written either: then clients from before it was
    there understand the task, and otherwise they refuse it. So it is with `report_steps`: an update says how many
    steps it took, which tells about as much as the number of samples does. `control_variates` is β, not written at
    0 either: each step's gradient gets β (c - cᵢ) of SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378).
    """

    loss: Loss = "cross_entropy"
    optimizer: ClientOptimizer = "sgd"
    lr: Positive = 0.1
    momentum: Fraction = 0.0
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    local_epochs: Annotated[int, Field(ge=1, le=1_000)] = 1
    max_grad_norm: Positive | None = None
    proximal_mu: Annotated[float, Field(ge=0, allow_inf_nan=False, exclude_if=lambda mu: mu == 0)] = 0.0
    report_steps: Annotated[bool, Field(exclude_if=lambda reported: not reported)] = False
    control_variates: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, exclude_if=lambda beta: beta == 0)] = 0.0

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

    total: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    target_updates: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    min_updates: Annotated[int, Field(ge=1, le=1_000_000)] = 2
    over_selection: Literal["auto"] | Annotated[float, Field(ge=1, le=10)] = "auto"
    deadline_seconds: Positive = 300.0
    start_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    start_wait_seconds: Positive = 60.0
    mode: Literal["sync", "async", "fedbuff"] = "sync"
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_staleness: Annotated[int, Field(ge=0, le=1_000_000)] | None = None

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

    mode: Literal["open"] = "open"
    max_update_norm: Positive | None = None
    adaptive_norm_limit: bool = True
    max_num_samples: Annotated[int, Field(ge=1, le=MAX_NUM_SAMPLES)] | None = None


class WireSection(_Section):
    """How an update travels."""

    encoding: Encoding = "f32"
    compression: Compression = "none"
    topk_fraction: Annotated[float, Field(gt=0, le=1)] = 0.01


class EvaluationSection(_Section):
    """Federated evaluation on clients' held-out data."""

    every_rounds: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    max_clients: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    holdout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2


class AuditSection(_Section):
    """Looks at updates by other clients. Each one shows a single update to strangers, so it is off unless asked for."""

    auditors: Annotated[int, Field(ge=0, le=15)] = 0


class JobSpec(_Section):
    """A whole job. `schema` describes a plug-in model's parameters; built-in models need none."""

    name: str = "default"
    description: str = Field(default="", max_length=2_000)
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
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
