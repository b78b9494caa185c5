"""JSON messages of the HTTP API, both directions.

The first group is the first API, kept field for field; further fields only ever come after the
documented ones. Requests refuse unknown fields unless they say otherwise; answers are what they
are declared to be.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fed_compute.protocol.job import MAX_NUM_SAMPLES as MAX_NUM_SAMPLES
from fed_compute.protocol.job import MAX_NUM_STEPS, Compression, Encoding, JobSpec, TrainingSection
from fed_compute.protocol.proof_of_work import MOST_DIGITS
from fed_compute.protocol.schema import ParameterSchema

PROTOCOL_HEADER = "Fed-Compute-Protocol"
PROTOCOL_VERSION = 1
SAFETENSORS = "application/vnd.safetensors"
SAFETENSORS_ZSTD = "application/vnd.safetensors+zstd"
MAX_LOSS = 1e6
"""The largest loss that is believed. One above it says that the data are not scaled."""

FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MAX_NUM_SAMPLES, strict=True)]
Loss = Annotated[float, Field(ge=0, le=MAX_LOSS, allow_inf_nan=False)]

# Clients read answers as hostile bytes: what a coordinator cannot mean is refused before anything is done with it.
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Number = Annotated[int, Field(ge=1, lt=2**63, strict=True)]
_Shape = Annotated[list[Annotated[int, Field(ge=1, lt=2**32, strict=True)]], Field(max_length=16)]


class Request(BaseModel):
    """A body sent by a client: unknown fields are refused, and so is a number written as text or a boolean."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Answer(BaseModel):
    """A body sent by the coordinator."""

    model_config = ConfigDict(frozen=True)


# --- the first API -----------------------------------------------------------------------------


class Capabilities(Request):
    """What a machine says about itself. Nothing here is believed, only used as a hint."""

    cpu_count: Annotated[int, Field(ge=1, le=4096)] | None = None
    memory_bytes: Annotated[int, Field(ge=1)] | None = None
    cuda: bool = False
    client_version: Annotated[str, Field(max_length=40)] | None = None


class Proof(Request):
    """A challenge of the coordinator and the whole number, as text, that solves it."""

    challenge: Annotated[str, Field(max_length=200)]
    solution: Annotated[str, Field(max_length=MOST_DIGITS)]


class RegisterRequest(Request):
    """`POST /client/register`. Where a proof of work is wanted, the refusal of the first try brings the challenge."""

    client_name: str | None = None
    invite: Annotated[str, Field(max_length=200)] | None = None
    proof: Proof | None = None
    capabilities: Capabilities | None = None


class RegisterAnswer(Answer):
    """The key is shown here once and never again. `state` is told if the client has to wait for approval."""

    success: bool
    message: str
    client_id: str
    api_key: str
    state: Literal["pending"] | None = None


class ClientStateAnswer(Answer):
    """`GET /client/{client_id}`: how a client stands. `key_expires_at` is the end of the key that asks, if it has one.

    `rounds_per_day` is how many training tasks it may take within 24 hours, None for any number.
    """

    client_id: str
    state: Literal["active", "pending"]
    registered_at: float
    rounds_per_day: int | None
    key_id: str
    key_expires_at: float | None


class RotateRequest(Request):
    """How long the old key stays good beside the new one, in hours; 0 ends it now."""

    overlap_hours: Annotated[float, Field(ge=0, le=168, allow_inf_nan=False)] = 24.0


class RotateAnswer(Answer):
    """The new key is shown here once and never again. Times are Unix seconds."""

    client_id: str | None
    key_id: str
    api_key: str
    expires_at: float | None
    old_keys: list[str]
    old_keys_end_at: float


class Recipe(Answer):
    """Everything a client needs to do a task, as data."""

    model: Annotated[str, Field(min_length=1, max_length=80)]
    model_args: dict[str, Any]
    schema_digest: _Digest
    parameters: list[tuple[Annotated[str, Field(max_length=160)], _Shape]]
    training: TrainingSection
    holdout_fraction: _Share
    encoding: Encoding
    compression: Compression
    topk_fraction: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    max_update_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    seed: int
    max_num_samples: Count = MAX_NUM_SAMPLES

    @classmethod
    def of(
        cls,
        spec: JobSpec,
        schema: ParameterSchema,
        *,
        seed: int,
        max_update_norm: float | None = None,
        max_num_samples: int = MAX_NUM_SAMPLES,
    ) -> Self:
        """Return what a client of a job is told to train, with the seed of its task and the limits of its round."""
        return cls(
            model=spec.model.name,
            model_args=spec.model.args,
            schema_digest=schema.digest(),
            parameters=[(parameter.name, list(parameter.shape)) for parameter in schema.parameters],
            training=spec.training,
            holdout_fraction=spec.evaluation.holdout_fraction,
            encoding=spec.wire.encoding,
            compression=spec.wire.compression,
            topk_fraction=spec.wire.topk_fraction,
            max_update_norm=max_update_norm,
            max_num_samples=max_num_samples,
            seed=seed,
        )


class TaskAnswer(Answer):
    """`GET /task/{client_id}`: one lease. `deadline` is Unix seconds, `seconds_left` the same as a duration.

    That is until when the lease holds without a further heartbeat. The work should be done within
    `soft_seconds_left`, and counts if it comes within `hard_seconds_left`, the end of the round.
    The round closes with `target_updates` updates, or at its deadline with at least `min_updates`, and up to
    `auditors` other clients may be shown one of them; None from a coordinator that does not say. A task of kind
    `audit` is about the update that hashes to `audited_digest`, at `GET /tasks/{task_id}/audited`. A training with
    control variates goes with the one that hashes to `control_digest`, at `GET /tasks/{task_id}/control`; it is not
    there at all as long as that is zero.
    """

    round_id: _Number
    model_version: Annotated[str, Field(pattern=r"^v[1-9][0-9]{0,8}$")]
    task: Literal["train", "evaluate", "audit"]
    description: str
    task_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,80}$")]
    job: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    model_digest: _Digest
    deadline: FiniteFloat
    seconds_left: _Seconds
    heartbeat_seconds: _Seconds
    recipe: Recipe
    target_updates: _Number | None = None
    min_updates: _Number | None = None
    auditors: Annotated[int, Field(ge=0, lt=2**31, strict=True)] | None = None
    audited_digest: _Digest | None = None
    soft_seconds_left: _Seconds | None = None
    hard_seconds_left: _Seconds | None = None
    control_digest: Annotated[_Digest | None, Field(exclude_if=lambda digest: digest is None)] = None

    @model_validator(mode="after")
    def _an_audit_is_about_an_update(self) -> Self:
        if (self.task == "audit") != (self.audited_digest is not None):
            raise ValueError("audited_digest must be there for a task of kind audit, and for no other")
        return self

    @model_validator(mode="after")
    def _a_control_variate_has_a_use(self) -> Self:
        used = self.task == "train" and self.recipe.training.control_variates > 0
        if self.control_digest is not None and not used:
            raise ValueError("control_digest must not be there for a task that trains without control variates")
        return self


class UpdateRequest(Request):
    """`POST /update`. `weight_delta` is a JSON text, or the same as plain JSON."""

    client_id: str
    round_id: int
    weight_delta: str | dict[str, Any] | list[Any]
    api_key: str | None = None
    num_samples: Count | None = None
    loss: Loss | None = None
    num_steps: Annotated[int, Field(ge=1, le=MAX_NUM_STEPS, strict=True)] | None = None


class UpdateAnswer(Answer):
    """An accepted update: it is durable and will be counted exactly once."""

    success: bool
    message: str
    update_id: int
    round_id: int
    task_id: str
    digest: str
    repeated: bool


class AggregateAnswer(Answer):
    """`GET /aggregate/{round_id}` of a closed round. `aggregated_model` is None when too large for JSON."""

    round_id: int
    model_version: str
    status: Literal["aggregated"]
    aggregated_model: dict[str, Any] | None
    num_updates: int
    job: str
    model_digest: str
    num_samples: int


class RoundStatusAnswer(Answer):
    """`GET /status/{round_id}`."""

    round_id: int
    model_version: str
    state: str
    assigned_clients: list[str]
    updates_received: list[str]
    total_clients: int
    total_updates: int
    job: str
    target_updates: int
    min_updates: int
    opened_at: float
    deadline: float | None
    closed_at: float | None
    result_version: str | None
    reason: str | None


class ModelAnswer(Answer):
    """`GET /model/{version}` as JSON: weights by tensor name as nested lists."""

    model_version: str
    job: str
    digest: str
    parent: str | None
    round_id: int | None
    num_parameters: int
    weights: dict[str, Any]


# --- binary clients ----------------------------------------------------------------------------


class HeartbeatRequest(Request):
    """`POST /tasks/{task_id}/heartbeat`: fraction of the work done, 0 to 1."""

    progress: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0


class HeartbeatAnswer(Answer):
    """Go on, or stop because the work has become useless: why, as a stable code and as a sentence."""

    task_id: str
    action: Literal["continue", "abort"]
    reason: str | None
    deadline: FiniteFloat
    seconds_left: _Seconds
    code: str | None = None


class EvaluationRequest(Request):
    """`POST /tasks/{task_id}/evaluation`: the global model measured on held-out local data."""

    num_samples: Count
    loss: Loss
    accuracy: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None


class AuditRequest(Request):
    """`POST /tasks/{task_id}/audit`: the base model, and it with the update added, on held-out local data.

    `loss` is null if the update made it NaN or infinite.
    """

    num_samples: Count
    base_loss: FiniteFloat
    loss: FiniteFloat | None


class TaskDone(Answer):
    """An evaluation or an audit was recorded, or a lease was given back."""

    success: bool
    message: str
    task_id: str


# --- teams and credit --------------------------------------------------------------------------


class TeamRequest(Request):
    """`POST /teams`."""

    name: Annotated[str, Field(max_length=200)]


class JoinTeamRequest(Request):
    """`POST /teams/join`."""

    code: Annotated[str, Field(max_length=200)]


class ReversalRequest(Request):
    """`POST /incentives/reversals`: take back all that was paid for one task, and say why."""

    task_id: Annotated[str, Field(max_length=80)]
    note: Annotated[str, Field(min_length=1, max_length=200)]


class PlaceAnswer(Answer):
    """One place of the leaderboard. Who earned the same shares a rank. Averages are in tokens a day."""

    rank: int
    name: str
    team: str | None
    tokens: float
    micro_tokens: int
    pending_tokens: float
    recent_average: float
    updates_counted: int


class TeamPlaceAnswer(Answer):
    """One team's place: what its members earned for it while they were members."""

    rank: int
    name: str
    tokens: float
    micro_tokens: int


class LeaderboardAnswer(Answer):
    """`GET /leaderboard`: one page of `total` places. `since` is when the window began, Unix seconds."""

    window: Literal["all", "week", "day"]
    since: float | None
    total: int
    offset: int
    clients: list[PlaceAnswer]
    teams: list[TeamPlaceAnswer]


# --- problems ----------------------------------------------------------------------------------


class Problem(BaseModel):
    """RFC 9457 problem document. `code` is stable; further members explain the case."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
