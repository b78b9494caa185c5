"""What a client does with a task between download and upload: no network, no waiting."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from fed_compute.client.datasets import Dataset, holdout_sizes, split_holdout
from fed_compute.client.datasets.dataset import HOLDOUT_SEED
from fed_compute.client.disclosure import Disclosure
from fed_compute.client.finishing import LeftBehind, decode_sent, finish
from fed_compute.client.memory import WorkMemory
from fed_compute.client.recipes import LOSSLESS, schema_of
from fed_compute.client.trainer import Device, EvaluationResult, Progress, TrainingResult, evaluate, train
from fed_compute.clock import Clock
from fed_compute.errors import PolicyRefusal, TrainingDiverged
from fed_compute.learning.control_variates import correction
from fed_compute.learning.privacy import l2_norm, tighter_norm
from fed_compute.protocol import tracing
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.messages import (
    MAX_LOSS,
    SAFETENSORS,
    SAFETENSORS_ZSTD,
    AuditRequest,
    EvaluationRequest,
    Recipe,
    TaskAnswer,
)
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import MAX_TRAIN_SECONDS

_DISCLOSURE = Disclosure()


@dataclass(frozen=True, slots=True)
class OwnRules:
    """Where the owner lets this machine train, and what may be told of it beside an update's values."""

    device: Device = "cpu"
    disclosure: Disclosure = _DISCLOSURE
    max_update_norm: float | None = None


_OWN_RULES = OwnRules()


@dataclass(frozen=True, slots=True)
class NormReport:
    """L2 norms of one update: of what was trained, of what will be decoded from what is sent, and the limit."""

    trained: float
    sent: float
    limit: float | None


@dataclass(frozen=True, eq=False)
class FinishedUpdate:
    """An encoded update, ready to be sent as often as it takes. `says` is all that it tells beside its values."""

    body: bytes
    content_type: str
    result: TrainingResult
    left: LeftBehind
    says: Mapping[str, int | float]
    norm: NormReport


class Workbench:
    """Trains, evaluates and audits on one data set. A memory keeps what encodings left out, and trainings under way.

    What is sent keeps both the recipe's and the owner's limit on the L2 norm, and tells no more
    beside the values than the owner lets out.
    """

    def __init__(self, dataset: Dataset, clock: Clock, memory: WorkMemory, *, rules: OwnRules = _OWN_RULES) -> None:
        self._dataset = dataset
        self._clock = clock
        self._memory = memory
        self._rules = rules

    def count_samples(self, task: TaskAnswer) -> int:
        """Return how many own samples a task would use: all but the held-out ones, or only those to measure.

        Raises:
            DatasetInvalid: if the data cannot be parted as the recipe wants.
        """
        training, held_out = holdout_sizes(self._dataset, task.recipe.holdout_fraction)
        return training if task.task == "train" else held_out

    @tracing.span("train")
    def train(
        self, task: TaskAnswer, vector: Vector, *, client_id: str, progress: Progress, control: Vector | None = None
    ) -> FinishedUpdate:
        """Train from the global vector, shape (P,), on all but the held-out samples, and encode the difference.

        `control` is the task's control variate, shape (P,), None for zero. If this very training was begun before and
        the process killed, it goes on from its last checkpoint.

        Raises:
            ModelMismatch, ModelUnknown, DatasetInvalid: if this machine cannot do this job.
            TrainingDiverged: if the result is not finite.
        """
        recipe = task.recipe
        samples, _ = split_holdout(self._dataset, recipe.holdout_fraction, HOLDOUT_SEED)
        device = self._rules.device
        added = self._correction(task, control)
        plan = _plan(task, samples, device=device, added=added)
        result = train(
            recipe, vector, samples, device=device, progress=progress, checkpointer=self._memory.checkpointer(plan),
            clock=self._clock, added=added,
        )  # fmt: skip
        limit = tighter_norm(recipe.max_update_norm, self._rules.max_update_norm)
        before = None
        if recipe.encoding != LOSSLESS:
            before = self._memory.residual(task.job, schema_digest=recipe.schema_digest, num_parameters=len(vector))
        says = self._metadata(result, recipe)
        finished = finish(result.delta, recipe, says, client_id=client_id, limit=limit, before=before, added=added)
        return FinishedUpdate(
            body=bytes(finished.body),
            content_type=_content_type(recipe),
            result=result,
            left=finished.left,
            says=says,
            norm=NormReport(trained=l2_norm(result.delta), sent=l2_norm(finished.sent), limit=limit),
        )

    def accepted(self, task: TaskAnswer, left: LeftBehind) -> None:
        """Take note that the coordinator has a task's update: the job's next one follows from what it left behind.

        Raises:
            StateUnusable: if that cannot be written down.
        """
        if left.residual is not None:
            self._memory.keep_residual(task.job, left.residual, schema_digest=task.recipe.schema_digest)
        if left.control is not None:
            self._memory.keep_own_control(task.job, left.control, schema_digest=task.recipe.schema_digest)

    def forget_training(self) -> None:
        """Drop the checkpoint of a task that has ended, or whose update is kept elsewhere."""
        self._memory.forget_training()

    @tracing.span("evaluate")
    def evaluate(self, task: TaskAnswer, vector: Vector) -> EvaluationRequest:
        """Measure the global vector, shape (P,), on the held-out samples.

        Raises:
            ModelMismatch, ModelUnknown, DatasetInvalid: if this machine cannot do this job.
            TrainingDiverged: if the loss is not finite.
            PolicyRefusal: if the owner lets no loss out.
        """
        result, told = self._measured(task.recipe, vector), self._rules.disclosure
        if result.loss > MAX_LOSS:
            raise TrainingDiverged(f"the loss on this machine's data is {result.loss:g}, at most {MAX_LOSS:g} is taken")
        loss = told.tell_loss(result.loss)
        if loss is None:
            raise _hidden()
        return EvaluationRequest(
            num_samples=told.tell_samples(result.num_samples), loss=loss, accuracy=told.tell_accuracy(result.accuracy)
        )

    @tracing.span("audit")
    def audit(self, task: TaskAnswer, vector: Vector, body: bytes) -> AuditRequest:
        """Measure the global vector, shape (P,), without and with somebody's update on the held-out samples.

        Raises:
            UpdateRefused: if the update cannot be read as the recipe says it must be.
            ModelMismatch, ModelUnknown, DatasetInvalid: if this machine cannot do this job.
            TrainingDiverged: if the loss without the update is not finite.
            PolicyRefusal: if the owner lets no loss out.
        """
        delta = decode_sent(body, task.recipe, num_parameters=schema_of(task.recipe).num_parameters)
        without = self._measured(task.recipe, vector)
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is measured as that
            changed = vector + delta
        told = self._rules.disclosure.tell_change(without.loss, self._loss_if_finite(task.recipe, changed))
        if told is None:
            raise _hidden()
        return AuditRequest(
            num_samples=self._rules.disclosure.tell_samples(without.num_samples), base_loss=told[0], loss=told[1]
        )

    def _correction(self, task: TaskAnswer, control: Vector | None) -> Vector | None:
        """Return what is added to each step's gradient, shape (P,); None in a job without control variates."""
        recipe, strength = task.recipe, task.recipe.training.control_variates
        if strength == 0:
            return None
        num_parameters = schema_of(recipe).num_parameters
        own = self._memory.own_control(task.job, schema_digest=recipe.schema_digest, num_parameters=num_parameters)
        return correction(np.zeros_like(own) if control is None else control, own, strength=strength)

    def _measured(self, recipe: Recipe, vector: Vector) -> EvaluationResult:
        _, held_out = split_holdout(self._dataset, recipe.holdout_fraction, HOLDOUT_SEED)
        return evaluate(recipe, vector, held_out, device=self._rules.device)

    def _loss_if_finite(self, recipe: Recipe, vector: Vector) -> float | None:
        try:
            return self._measured(recipe, vector).loss
        except TrainingDiverged:
            return None

    def _metadata(self, result: TrainingResult, recipe: Recipe) -> dict[str, int | float]:
        told = self._rules.disclosure
        samples = told.tell_samples(result.num_samples)
        says: dict[str, int | float] = {"num_samples": min(samples, recipe.max_num_samples)}
        if recipe.training.report_steps:
            says["num_steps"] = recipe.training.num_steps(samples)  # no more exact than the samples are told
        if (loss := told.tell_loss(result.loss)) is not None and 0 <= loss <= MAX_LOSS:
            says["loss"] = loss
        if (seconds := told.tell_seconds(result.seconds)) is not None:
            says["train_seconds"] = min(seconds, MAX_TRAIN_SECONDS)
        return says


def _hidden() -> PolicyRefusal:
    return PolicyRefusal("a measurement is a loss, and CLIENT_SHARE_LOSS hides it", setting="CLIENT_SHARE_LOSS")


def _content_type(recipe: Recipe) -> str:
    return SAFETENSORS_ZSTD if recipe.compression == "zstd" else SAFETENSORS


def _plan(task: TaskAnswer, samples: Dataset, *, device: Device, added: Vector | None) -> str:
    """Return a digest of everything that a training follows from, but for the values of the data."""
    followed = {
        "task": task.model_dump(
            mode="json", include={"task_id", "job", "round_id", "model_version", "model_digest", "recipe"}
        ),
        "data": [samples.name, *(f"{array.dtype}{array.shape}" for array in (samples.x, samples.y))],
        "device": device,
        "program": version("fed-compute"),
    }
    if added is not None:
        followed["added"] = sha256_hex(added.tobytes())
    return sha256_hex(json.dumps(followed, sort_keys=True).encode())
