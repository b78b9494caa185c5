"""Which path trains a job's clients fastest here: measured on the first clients, in a fraction of a second."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from fed_compute.client.models import build_model
from fed_compute.errors import CohortUnsupported
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.simulator.cohort.calls import Call, Task, groups_of
from fed_compute.simulator.cohort.plan import Plan, TrainingPath, stack_size
from fed_compute.simulator.cohort.training import GroupTrainer, make_trainer, why_not

_REFERENCE = Plan(TrainingPath.SEQUENTIAL)
_REFERENCE_CLIENTS = 2
_STEPS_MEASURED = 2
_SECONDS_PER_PATH = 0.15
_MOST_MEASURED = 256
_VALUES_PER_INPUT = 64
"""How many intermediate results of a model, about, there may be at once for each value of its input."""
_LARGEST_DIFFERENCE, _ROUNDING = 1e-3, 5e-7
"""How far a path's deltas may be from the trainer's before it is taken for wrong: so much of their length, and so much
of that of the base, from which they are told apart by float32.

Rounding gives a thousandth of that; chance drawn in another order, or samples that see each other, a hundred times it.
"""


@dataclass(frozen=True)
class Calibration:
    """The plan that was chosen, what each path was measured to do in one process, and why others were left out."""

    plan: Plan
    clients_per_second: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Say it in one line."""
        measured = ", ".join(f"{plan} {rate:,.0f}" for plan, rate in self.clients_per_second.items())
        left_out = "".join(f"; not {path}: {reason}" for path, reason in self.left_out.items())
        return (
            f"training path {self.plan}" + (f" (clients/s in one process: {measured})" if measured else "") + left_out
        )


def calibrate(call: Call, job: JobSpec, schema: ParameterSchema, device: torch.device) -> Calibration:
    """Choose the fastest path for clients like the first ones of a call in training order.

    Each path trains some of them for two steps; one whose deltas differ from the trainer's is left out. What is
    measured differs from run to run, so the plan that comes out may, too; the number of clients at once does not.
    The call is left as it was. Cost: about 0.15 s for each path, or a few steps of a model that takes longer.
    """
    probe = _Probe(call, job, schema, device)
    rates = {_REFERENCE: probe.rate(_REFERENCE)}
    left_out: dict[str, str] = {}
    for plan in probe.candidates(fitting_clients(call, job, schema, device)):
        if reason := probe.why_not(plan):
            left_out[plan.path] = reason
        else:
            rates[plan] = probe.rate(plan)
    best = max(rates, key=lambda plan: rates[plan])
    return Calibration(best, {str(plan): rate for plan, rate in rates.items()}, left_out)


def settle(call: Call, job: JobSpec, schema: ParameterSchema, device: torch.device) -> Calibration:
    """Choose the first path that gives what the trainer gives, in the order of how fast they usually are.

    Nothing is timed, so the choice repeats. The call is left as it was. Cost: two steps of two clients by each path.
    """
    probe = _Probe(call, job, schema, device)
    left_out: dict[str, str] = {}
    for plan in probe.candidates(fitting_clients(call, job, schema, device)):
        if (reason := probe.why_not(plan)) is None:
            return Calibration(plan, left_out=left_out)
        left_out[plan.path] = reason
    return Calibration(_REFERENCE, left_out=left_out)


def check(call: Call, task: Task, device: torch.device) -> None:
    """Try a plan that was given on the first clients of a call, which is left as it was.

    Raises:
        CohortUnsupported: if the path cannot train the model, or gives something else than the trainer.
    """
    if task.plan.path is TrainingPath.SEQUENTIAL:
        return
    if reason := _Probe(call, task.job, task.schema, device).why_not(task.plan):
        raise CohortUnsupported(
            f"path {task.plan.path} cannot train model {task.job.model.name!r}: {reason}; leave the path out to have "
            "one chosen, or take sequential"
        )


class _Probe:
    """The first clients of a call, trained by the client's own trainer, and by others to compare."""

    def __init__(self, call: Call, job: JobSpec, schema: ParameterSchema, device: torch.device) -> None:
        self._call, self._schema, self._device = call, schema, device
        self._job = _changed(job, local_epochs=1)
        # Adam divides by the size of each gradient, which makes steps of what is nothing but rounding.
        self._compared = _changed(self._job, optimizer="sgd")
        self._module = build_model(Recipe.of(job, schema, seed=0))
        self._wanted = self._trained(_REFERENCE, clients=_REFERENCE_CLIENTS)

    def candidates(self, at_once: int) -> list[Plan]:
        """Return the plans that may be fastest, beside the reference.

        Stacked layers beat all else. Of convolutions a CPU computes one client's after the other fastest, and
        `vmap`, whose first use loads PyTorch's compiler for a second, three times slower.
        """
        stacked, vmap = Plan(TrainingPath.STACKED, at_once), Plan(TrainingPath.VMAP, at_once)
        looped = Plan(TrainingPath.LOOPED)
        can_stack = why_not(TrainingPath.STACKED, self._job, self._schema, self._module) is None
        if any(isinstance(one, nn.Conv1d | nn.Conv2d | nn.Conv3d) for one in self._module.modules()):
            return [looped] if self._device.type == "cpu" else [*([stacked] if can_stack else []), vmap, looped]
        return [stacked] if can_stack else [vmap, looped]

    def why_not(self, plan: Plan) -> str | None:
        """Say how a path's deltas differ from the trainer's, or what it fails with, or None."""
        if reason := why_not(plan.path, self._job, self._schema, self._module):
            return reason
        try:
            found = self._trained(plan, clients=_REFERENCE_CLIENTS)
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:  # what torch says of odd modules
            return f"it fails with: {str(error).strip().splitlines()[0][:200]}"
        both_diverge = np.isnan(found.losses) & np.isnan(self._wanted.losses)
        away = np.linalg.norm(found.deltas - self._wanted.deltas, axis=1)
        allowed = _LARGEST_DIFFERENCE * np.linalg.norm(self._wanted.deltas, axis=1)
        if (both_diverge | (away <= allowed + _ROUNDING * np.linalg.norm(self._call.base))).all():
            return None
        return f"its deltas differ from the trainer's by {np.nanmax(away):.1e}"

    def rate(self, plan: Plan) -> float:
        """Return how many clients it trains a second."""
        excerpt = _excerpt(self._call, self._job, clients=min(plan.num_clients, _MOST_MEASURED))
        return _rate(excerpt, make_trainer(Task(self._job, self._schema, plan), self._device), plan, self._device)

    def _trained(self, plan: Plan, *, clients: int) -> Call:
        excerpt = _excerpt(self._call, self._compared, clients=clients)
        return _trained(excerpt, make_trainer(Task(self._compared, self._schema, plan), self._device), plan)


def fitting_clients(call: Call, job: JobSpec, schema: ParameterSchema, device: torch.device) -> int:
    """Return how many clients to take at once: a matter of model, data and device, not of what is measured."""
    if device.type == "cpu":
        return stack_size(schema.num_parameters)
    batch_bytes: int = job.training.batch_size * max(dataset.x[0].nbytes for dataset in call.datasets)
    memory_bytes: int = torch.cuda.get_device_properties(device).total_memory
    fitting: int = memory_bytes // (4 * _VALUES_PER_INPUT * batch_bytes)
    return max(1, min(stack_size(schema.num_parameters, device="cuda"), fitting))


def _excerpt(call: Call, job: JobSpec, *, clients: int) -> Call:
    """Return a call of the first clients, with samples for two steps, and all but the first with one less if they can.

    So batches are of different lengths, but none is of a single sample, on which some models cannot be trained.
    """
    batch = job.training.batch_size
    most = batch * _STEPS_MEASURED - batch // 4
    count = min(clients, int(np.count_nonzero(call.sources == call.sources[0])))
    sizes = np.minimum(np.diff(call.bounds)[:count], most)
    sizes[1:] -= (sizes[1:] - 1) % batch > 1
    return Call(
        base=call.base,
        datasets=call.datasets,
        sources=call.sources[:count],
        rows=np.concatenate([call.shard(client)[: sizes[client]] for client in range(count)]),
        bounds=np.concatenate([[0], np.cumsum(sizes)]),
        seeds=call.seeds[:count],
        places=np.arange(count),
        added=None if call.added is None else call.added[call.places[:count]],
        deltas=np.empty((count, len(call.base)), dtype=np.float32),
        losses=np.empty(count),
    )


def _changed(job: JobSpec, **training: object) -> JobSpec:
    return job.model_copy(update={"training": job.training.model_copy(update=training)})


def _trained(call: Call, trainer: GroupTrainer, plan: Plan) -> Call:
    for group in groups_of(call.sources, plan.num_clients):
        trainer(call, group)
    return call


def _rate(call: Call, trainer: GroupTrainer, plan: Plan, device: torch.device) -> float:
    """Return clients per second of computing: the best of a few rounds, since the machine may be busy otherwise."""
    best, spent = math.inf, 0.0
    while spent < _SECONDS_PER_PATH:
        began = _now(device)
        _trained(call, trainer, plan)
        best = min(best, _now(device) - began)
        spent += best
    return len(call) / best


def _now(device: torch.device) -> float:
    """Return seconds: of this process on a CPU that others use too, else of the device."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()
