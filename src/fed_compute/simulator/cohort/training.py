"""Training the clients of one group, by whatever path."""

from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fed_compute.client.datasets import Dataset
from fed_compute.client.models import build_model
from fed_compute.client.trainer import Device, train
from fed_compute.client.trainer_checks import targets_of
from fed_compute.errors import CohortUnsupported, TrainingDiverged
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.simulator.cohort.calls import Call, Numbers, Task
from fed_compute.simulator.cohort.gradients import Gradients, first_of
from fed_compute.simulator.cohort.modules import LoopedModule, VmappedModule, why_not_looped
from fed_compute.simulator.cohort.optimizers import StackedOptimizer
from fed_compute.simulator.cohort.origins import adopt, origin_of
from fed_compute.simulator.cohort.parameter_rows import ParameterRows
from fed_compute.simulator.cohort.plan import TrainingPath
from fed_compute.simulator.cohort.stacked import STACKED_MODELS, stacked_model
from fed_compute.simulator.cohort.timetable import Timetable, on_device


class GroupTrainer(Protocol):
    """Trains some of a call's clients."""

    def __call__(self, call: Call, group: slice) -> None:
        """Write deltas and losses of the group's clients into the call; on CUDA this may be done a little later."""
        ...


def make_trainer(task: Task, device: torch.device) -> GroupTrainer:
    """Return what trains groups by the task's plan. The code of its model is imported if the task says from where.

    Raises:
        CohortUnsupported: if the plan's path cannot train the model, with the reason.
        ModelMismatch, ModelUnknown: if the model cannot be built.
    """
    if task.origin is not None and origin_of(task.job.model.name) != task.origin:
        adopt(task.job.model.name, task.origin)
    if task.plan.path is TrainingPath.SEQUENTIAL:
        return _OneByOne(Recipe.of(task.job, task.schema, seed=0), device)
    module = build_model(Recipe.of(task.job, task.schema, seed=0))
    if reason := why_not(task.plan.path, task.job, task.schema, module):
        raise CohortUnsupported(f"path {task.plan.path} cannot train model {task.job.model.name!r}: {reason}")
    return _Together(task, _gradients(task, module, device), device)


class Trainers:
    """The trainer of the last task, kept for the next call: its model is built and its memory is warm."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last: tuple[Task, GroupTrainer] | None = None

    def of(self, task: Task) -> GroupTrainer:
        """Return the trainer of a task.

        Raises:
            CohortUnsupported: if the task's path cannot train the model.
        """
        if self._last is None or self._last[0] is not task:
            self._last = task, make_trainer(task, self._device)
        return self._last[1]


def why_not(path: TrainingPath, job: JobSpec, schema: ParameterSchema, module: nn.Module) -> str | None:
    """Say what keeps a path from training a model, as far as the model's form tells, or None."""
    if path is TrainingPath.SEQUENTIAL:
        return None
    if path is TrainingPath.STACKED:
        return None if job.model.name in STACKED_MODELS else f"it takes {', '.join(STACKED_MODELS)} only"
    return why_not_looped(module, schema)


def _gradients(task: Task, module: nn.Module, device: torch.device) -> Gradients:
    loss = task.job.training.loss
    match task.plan.path:
        case TrainingPath.STACKED:
            return stacked_model(task.job.model, loss)
        case TrainingPath.VMAP:
            return VmappedModule(module.to(device), task.schema, loss)
        case _:
            return LoopedModule(module.to(device), task.schema, loss)


class _OneByOne:
    """The client's own trainer."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self._recipe = recipe
        self._device: Device = "cuda" if device.type == "cuda" else "cpu"

    def __call__(self, call: Call, group: slice) -> None:
        for client in range(group.start, group.stop):
            recipe = self._recipe.model_copy(update={"seed": int(call.seeds[client])})
            dataset = call.datasets[call.sources[client]].take(call.shard(client))
            place = call.places[client]
            added = None if call.added is None else call.added[place]
            try:
                found = train(recipe, call.base, dataset, device=self._device, added=added)
            except TrainingDiverged:
                call.deltas[place], call.losses[place] = np.nan, np.nan
            else:
                call.deltas[place], call.losses[place] = found.delta, found.loss


class _Together:
    """Rows of parameters, moved step by step: those of the call itself, if its clients lie next to each other there."""

    def __init__(self, task: Task, gradients: Gradients, device: torch.device) -> None:
        self._training = task.job.training
        self._gradients = gradients
        self._device = device
        self._rows = ParameterRows(task.schema, channels_last=task.plan.path is TrainingPath.LOOPED)
        self._spare: torch.Tensor | None = None
        self._samples: WeakKeyDictionary[Dataset, tuple[torch.Tensor, torch.Tensor]] = WeakKeyDictionary()

    def __call__(self, call: Call, group: slice) -> None:
        order, rows = _rows(call.places[group])
        is_direct = self._device.type == "cpu" and order is None and isinstance(rows, slice)
        if is_direct:
            moved = torch.from_numpy(call.deltas)[rows]
        else:
            moved = self._spare_rows(group.stop - group.start, len(call.base))
        shards = [call.shard(client) for client in range(group.start, group.stop)]
        timetable = Timetable(shards, call.seeds[group].tolist(), self._training, self._device)
        losses = self._train(call, group, moved, timetable)
        means, trace = (losses * timetable.shares).sum(dim=1), losses.sum(dim=1) + moved.sum(dim=1)
        _blank(means, moved, ~torch.isfinite(trace))  # where anything is not finite, the trace is not
        _put(means if order is None else means[order], call.losses, rows)
        if not is_direct:
            _put(moved if order is None else moved[order], call.deltas, rows)

    def _train(self, call: Call, group: slice, moved: torch.Tensor, timetable: Timetable) -> torch.Tensor:
        """Train a group's clients in the rows `moved`, (k, P), and return the losses of all steps, (k, T), float64."""
        inputs, targets = self._samples_of(call.datasets[call.sources[group.start]])
        base = on_device(call.base, self._device)
        stacks = self._rows.begin(moved, base)
        added = None
        if call.added is not None:
            added = self._rows.stacks(on_device(call.added[call.places[group]], self._device))
        optimizer = StackedOptimizer(stacks, self._training, start=self._rows.stacks(base), added=added)
        losses = torch.zeros(len(moved), len(timetable), dtype=torch.float64, device=self._device)
        for step in timetable:
            places, shape = step.rows.reshape(-1), step.rows.shape
            found, gradients = self._gradients(
                first_of(stacks, step.active),
                inputs.index_select(0, places).view(*shape, *inputs.shape[1:]),
                targets.index_select(0, places).view(*shape, *targets.shape[1:]),
                step.weights,
            )
            optimizer.step(gradients, active=step.active)
            losses[: step.active, step.number].copy_(found)
        self._rows.end(moved, base, stacks)
        return losses

    def _samples_of(self, dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets on the device, moved there once for as long as the data set is in use."""
        if dataset not in self._samples:
            targets = targets_of(dataset, self._training.loss)
            self._samples[dataset] = torch.from_numpy(dataset.x).to(self._device), targets.to(self._device)
        return self._samples[dataset]

    def _spare_rows(self, count: int, length: int) -> torch.Tensor:
        """Return rows, (count, length), that are nobody's; on a CPU always the same ones, which stay in the cache."""
        if self._device.type != "cpu":
            return torch.empty(count, length, device=self._device)
        if self._spare is None or len(self._spare) < count:
            self._spare = torch.empty(count, length)
        return self._spare[:count]


def _blank(means: torch.Tensor, moved: torch.Tensor, unsound: torch.Tensor) -> None:
    """Set the results of the clients that are `unsound`, shape (k,), to NaN."""
    if unsound.device.type == "cuda" or bool(unsound.any()):  # to ask would be to wait for the device
        means.masked_fill_(unsound, torch.nan)
        moved.masked_fill_(unsound.unsqueeze(1), torch.nan)


def _put(results: torch.Tensor, target: npt.NDArray[Any], rows: slice | Numbers) -> None:
    """Copy results into rows of an array; from CUDA into a slice of pinned memory this returns before it is done."""
    if isinstance(rows, slice):
        torch.from_numpy(target)[rows].copy_(results, non_blocking=True)
    else:
        target[rows] = results.cpu().numpy()


def _rows(places: Numbers) -> tuple[torch.Tensor | None, slice | Numbers]:
    """Return in which order to take results (None: as they are), and the rows they go to, if possible as a slice."""
    order = np.argsort(places)
    ordered = places[order]
    rows = slice(int(ordered[0]), int(ordered[0]) + len(places)) if (np.diff(ordered) == 1).all() else ordered
    return None if (np.diff(order) == 1).all() else torch.from_numpy(order), rows
