"""One local training pass, and one evaluation, from the global parameters."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fed_compute.client.checkpoints import Checkpointer
from fed_compute.client.datasets import Dataset
from fed_compute.client.models import build_model, load_vector, to_vector
from fed_compute.client.recipes import schema_of
from fed_compute.client.trainer_checkpoints import Course
from fed_compute.client.trainer_checks import check_data, targets_of
from fed_compute.client.trainer_controls import Correction
from fed_compute.client.trainer_optimizers import make_optimizer
from fed_compute.client.trainer_proximal import ProximalTerm
from fed_compute.clock import Clock, SystemClock
from fed_compute.errors import ExtraMissing, TrainingDiverged
from fed_compute.protocol.job import TrainingSection
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import Vector

Device = Literal["auto", "cpu", "cuda"]
Progress = Callable[[float], None]
"""Called after each batch with the fraction done, 0 to 1. Raise from it to stop the training."""

_EVALUATION_BATCH = 512
_SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What one pass gave: `delta`, shape (P,), float32, trained minus global parameters.

    `loss` is the mean training loss per sample over the last epoch, measured while training.
    """

    delta: Vector
    num_samples: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class EvaluationResult:
    """The global model on local data. `accuracy` is a fraction, None when there are no classes."""

    num_samples: int
    loss: float
    accuracy: float | None


def train(
    recipe: Recipe,
    vector: Vector,
    dataset: Dataset,
    *,
    device: Device = "cpu",
    progress: Progress | None = None,
    checkpointer: Checkpointer | None = None,
    clock: Clock = _SYSTEM_CLOCK,
    added: Vector | None = None,
) -> TrainingResult:
    """Train the recipe's model from `vector`, shape (P,), on all samples of the data set.

    The same recipe, vector and data give the same bits on the CPU with one thread
    (`set_threads(1)`): initial state, shuffling and dropout all follow `recipe.seed`. That also
    holds for one that was killed and goes on from what the `checkpointer` has of it. The random state
    of the process is the same afterwards as before. `added`, shape (P,), is added to each step's gradient, after this
    was limited.

    Raises:
        ModelMismatch, ModelUnknown: if model, vector or data do not fit together, found and wanted.
        TrainingDiverged: if loss or parameters stop being finite.
    """
    target = choose_device(device)
    schema, training = schema_of(recipe), recipe.training
    seed = recipe.seed % 2**63
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []):
        torch.manual_seed(seed)
        module = build_model(recipe)
        load_vector(module, schema, vector)
        check_data(module, training.loss, dataset)
        module.to(target)
        course = Course(module, make_optimizer(module.parameters(), training), device=target, clock=clock)
        term = ProximalTerm(module.parameters(), training.proximal_mu) if training.proximal_mu > 0 else None
        turn = None if added is None else Correction(module, schema, added)
        if checkpointer is not None:
            checkpointer.resume(course.resume)
        loss = _fit(
            course, training, dataset, term=term, turn=turn, seed=seed, progress=progress, checkpointer=checkpointer
        )
    delta = to_vector(module, schema) - vector
    if not np.isfinite(delta).all():
        raise TrainingDiverged(f"a parameter became NaN or infinite with lr {training.lr}; the job needs a smaller one")
    return TrainingResult(delta, len(dataset), loss, course.seconds)


def evaluate(recipe: Recipe, vector: Vector, dataset: Dataset, *, device: Device = "cpu") -> EvaluationResult:
    """Measure the recipe's model with the parameters `vector`, shape (P,), on all samples of the data set.

    Raises:
        ModelMismatch, ModelUnknown: if model, vector or data do not fit together, found and wanted.
        TrainingDiverged: if the loss is not finite.
    """
    return Evaluator(recipe, vector, device=device).measure(dataset)


class Evaluator:
    """One model with its parameters, to be measured on several data sets."""

    def __init__(self, recipe: Recipe, vector: Vector, *, device: Device = "cpu") -> None:
        """Build the recipe's model with the parameters `vector`, shape (P,).

        Raises:
            ModelMismatch, ModelUnknown: if they do not fit together, found and wanted.
        """
        self._device, self._loss = choose_device(device), recipe.training.loss
        with torch.random.fork_rng(devices=[]):
            self._module = build_model(recipe)
        load_vector(self._module, schema_of(recipe), vector)

    def measure(self, dataset: Dataset) -> EvaluationResult:
        """Measure the model on all samples of a data set.

        Raises:
            ModelMismatch: if the data do not fit, found and wanted.
            TrainingDiverged: if the loss is not finite.
        """
        check_data(self._module.cpu(), self._loss, dataset)
        module = self._module.to(self._device).eval()
        inputs, targets = torch.from_numpy(dataset.x), targets_of(dataset, self._loss)
        loss_sum, correct = 0.0, 0
        with torch.no_grad():
            for start in range(0, len(dataset), _EVALUATION_BATCH):
                rows = slice(start, start + _EVALUATION_BATCH)
                outputs, wanted = module(inputs[rows].to(self._device)), targets[rows].to(self._device)
                loss_sum += float(_loss(outputs, wanted, self._loss)) * len(wanted)
                if self._loss == "cross_entropy":
                    correct += int((outputs.argmax(dim=1) == wanted).sum())
        if not np.isfinite(loss_sum):
            raise TrainingDiverged("the loss of the global model on this machine's data is NaN or infinite")
        accuracy = correct / len(dataset) if self._loss == "cross_entropy" else None
        return EvaluationResult(len(dataset), loss_sum / len(dataset), accuracy)


def choose_device(device: Device) -> torch.device:
    """Return the device to train on; `auto` takes CUDA if there is one.

    Raises:
        ExtraMissing: if CUDA is asked for and this torch finds none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ExtraMissing(what="training on CUDA (this torch finds no CUDA device)", extra="client")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def cuda_available() -> bool:
    """Say whether this machine can train on CUDA."""
    return torch.cuda.is_available()


def set_threads(count: int) -> None:
    """Let torch use `count` CPU threads in this process. With 1, training is bit-for-bit repeatable."""
    torch.set_num_threads(count)


def _fit(
    course: Course,
    training: TrainingSection,
    dataset: Dataset,
    *,
    term: ProximalTerm | None,
    turn: Correction | None,
    seed: int,
    progress: Progress | None,
    checkpointer: Checkpointer | None,
) -> float:
    """Train the module in place, from where it is; return the mean loss per sample of the last epoch.

    That is the job's loss, without the proximal term.
    """
    module, device = course.module, course.device
    inputs, targets = torch.from_numpy(dataset.x), targets_of(dataset, training.loss)
    steps_per_epoch = -(-len(dataset) // training.batch_size)
    steps = training.local_epochs * steps_per_epoch
    module.train()
    for rows in islice(_batches(len(dataset), training, seed), course.steps_done, None):
        epoch, step_of_epoch = divmod(course.steps_done, steps_per_epoch)
        if step_of_epoch == 0:
            course.loss_sum = 0.0
        module.zero_grad()
        loss = _loss(module(inputs[rows].to(device)), targets[rows].to(device), training.loss)
        loss.backward()  # type: ignore[no-untyped-call]
        if term is not None:
            term.add_gradient()
        if training.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), training.max_grad_norm)
        if turn is not None:
            turn.add_gradient()
        course.optimizer.step()
        course.loss_sum += _finite(float(loss.detach()), epoch, training) * len(rows)
        course.steps_done += 1
        if checkpointer is not None and course.steps_done < steps:
            checkpointer.offer(course.checkpoint, epoch_ended=course.steps_done % steps_per_epoch == 0)
        if progress is not None:
            progress(course.steps_done / steps)
    return course.loss_sum / len(dataset)


def _batches(count: int, training: TrainingSection, seed: int) -> Iterator[torch.Tensor]:
    """Give every epoch's batches of row numbers, each epoch freshly shuffled from one stream."""
    stream = torch.Generator().manual_seed(seed)
    for _ in range(training.local_epochs):
        order = torch.randperm(count, generator=stream)
        for start in range(0, count, training.batch_size):
            yield order[start : start + training.batch_size]


def _loss(outputs: torch.Tensor, targets: torch.Tensor, name: Literal["cross_entropy", "mse"]) -> torch.Tensor:
    """Return the mean loss of one batch."""
    return F.cross_entropy(outputs, targets) if name == "cross_entropy" else F.mse_loss(outputs, targets)


def _finite(loss: float, epoch: int, training: TrainingSection) -> float:
    if not np.isfinite(loss):
        raise TrainingDiverged(
            f"the loss became {loss} in epoch {epoch + 1} of {training.local_epochs} with lr {training.lr}; "
            "the job needs a smaller lr or max_grad_norm"
        )
    return loss
