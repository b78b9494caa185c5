"""What a client does with a task between download and upload: no network, no waiting."""

import zlib
from dataclasses import dataclass

import numpy as np

from fed_compute.client.datasets import Dataset, split_holdout
from fed_compute.client.recipes import schema_of
from fed_compute.client.trainer import Device, Progress, TrainingResult, evaluate, train
from fed_compute.clock import Clock
from fed_compute.errors import TrainingDiverged
from fed_compute.learning.compression import Residual
from fed_compute.learning.vectors import clip_to_norm, l2_norm
from fed_compute.protocol.messages import (
    MAX_LOSS,
    MAX_NUM_SAMPLES,
    SAFETENSORS,
    SAFETENSORS_ZSTD,
    EvaluationRequest,
    Recipe,
    TaskAnswer,
)
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import MAX_TRAIN_SECONDS, decode_update, encode_update

HOLDOUT_SEED = 0
"""The held-out samples are the same in every task, so no model is ever trained on them."""

_LOSSLESS = "f32"
_ATTEMPTS_TO_FIT_NORM = 4


@dataclass(frozen=True, eq=False)
class FinishedUpdate:
    """An encoded update, ready to be sent as often as it takes."""

    body: bytes
    content_type: str
    result: TrainingResult
    residual: Residual | None
    """What is left unsent once this update is accepted; None for lossless encodings."""


class Workbench:
    """Trains and evaluates on one data set. Remembers per job what lossy encodings left out."""

    def __init__(self, dataset: Dataset, clock: Clock, *, device: Device = "cpu") -> None:
        self._dataset = dataset
        self._clock = clock
        self._device: Device = device
        self._residuals: dict[str, Residual] = {}

    def train(self, task: TaskAnswer, vector: Vector, *, client_id: str, progress: Progress) -> FinishedUpdate:
        """Train from the global vector, shape (P,), on all but the held-out samples, and encode the difference.

        Raises:
            ModelMismatch, ModelUnknown, DatasetInvalid: if this machine cannot do this job.
            TrainingDiverged: if the result is not finite.
        """
        recipe = task.recipe
        samples, _ = split_holdout(self._dataset, recipe.holdout_fraction, HOLDOUT_SEED)
        result = train(recipe, vector, samples, device=self._device, progress=progress, clock=self._clock)
        rng = _rounding_stream(recipe, client_id)
        if recipe.encoding == _LOSSLESS:
            body, _ = _encode(result, _clipped(result.delta, recipe.max_update_norm), recipe, rng)
            return FinishedUpdate(body, _content_type(recipe), result, None)
        before = self._residual(task.job, len(vector))
        wanted = before.compensate(_clipped(result.delta, recipe.max_update_norm))
        body, sent = _encode(result, wanted, recipe, rng)
        return FinishedUpdate(body, _content_type(recipe), result, before.keep(wanted, sent))

    def accepted(self, job: str, update: FinishedUpdate) -> None:
        """Take note that the coordinator has the update: what it left out is added to the job's next one."""
        if update.residual is not None:
            self._residuals[job] = update.residual

    def evaluate(self, task: TaskAnswer, vector: Vector) -> EvaluationRequest:
        """Measure the global vector, shape (P,), on the held-out samples.

        Raises:
            ModelMismatch, ModelUnknown, DatasetInvalid: if this machine cannot do this job.
            TrainingDiverged: if the loss is not finite.
        """
        _, held_out = split_holdout(self._dataset, task.recipe.holdout_fraction, HOLDOUT_SEED)
        result = evaluate(task.recipe, vector, held_out, device=self._device)
        if result.loss > MAX_LOSS:
            raise TrainingDiverged(f"the loss on this machine's data is {result.loss:g}, at most {MAX_LOSS:g} is taken")
        return EvaluationRequest(
            num_samples=min(result.num_samples, MAX_NUM_SAMPLES), loss=result.loss, accuracy=result.accuracy
        )

    def _residual(self, job: str, num_parameters: int) -> Residual:
        """Return what the job's last update left out; nothing if there is none or the model has changed its size."""
        residual = self._residuals.get(job)
        if residual is None or residual.unsent.size != num_parameters:
            return Residual.initial(num_parameters)
        return residual


def _encode(result: TrainingResult, wanted: Vector, recipe: Recipe, rng: np.random.Generator) -> tuple[bytes, Vector]:
    """Return the body and the delta, shape (P,), that the coordinator will read from it.

    Rounding can make a vector longer than it was; it is then shortened until what arrives keeps
    the recipe's maximum norm.
    """
    limit = recipe.max_update_norm
    offered = _clipped(wanted, limit)
    for _ in range(_ATTEMPTS_TO_FIT_NORM):
        body = encode_update(
            offered,
            encoding=recipe.encoding,
            compression=recipe.compression,
            topk_fraction=recipe.topk_fraction,
            schema_digest=recipe.schema_digest,
            num_samples=min(result.num_samples, recipe.max_num_samples),
            loss=result.loss if 0 <= result.loss <= MAX_LOSS else None,
            train_seconds=min(result.seconds, MAX_TRAIN_SECONDS),
            rng=rng,
        )
        sent = _decode(body, recipe, num_parameters=wanted.size)
        if limit is None or (norm := l2_norm(sent)) <= limit:
            return body, sent
        offered = clip_to_norm(offered, l2_norm(offered) * 0.99 * limit / norm)
    raise TrainingDiverged(f"the encoded update stays longer than the recipe's maximum norm {limit:g}")


def _decode(body: bytes, recipe: Recipe, *, num_parameters: int) -> Vector:
    return decode_update(
        body,
        num_parameters=num_parameters,
        schema_digest=schema_of(recipe).digest(),
        encoding=recipe.encoding,
        compression=recipe.compression,
        topk_fraction=recipe.topk_fraction,
    ).delta


def _clipped(delta: Vector, max_norm: float | None) -> Vector:
    return delta if max_norm is None else clip_to_norm(delta, max_norm)


def _content_type(recipe: Recipe) -> str:
    return SAFETENSORS_ZSTD if recipe.compression == "zstd" else SAFETENSORS


def _rounding_stream(recipe: Recipe, client_id: str) -> np.random.Generator:
    """Return the stream of stochastic rounding: repeatable, and another one for each client."""
    words = [recipe.seed % 2**63, zlib.crc32(client_id.encode())]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
