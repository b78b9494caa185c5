"""Trains the clients of a round at the speed of the hardware, with the results of the client's own trainer."""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from fed_compute.client.datasets import Dataset
from fed_compute.client.trainer import Device, choose_device, set_threads
from fed_compute.errors import CohortUnsupported, ModelMismatch
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.schema import ParameterSchema, Vector
from fed_compute.simulator.cohort.arranging import arrange
from fed_compute.simulator.cohort.calibration import Calibration, calibrate, check, fitting_clients, settle
from fed_compute.simulator.cohort.calls import Call, Task, groups_of
from fed_compute.simulator.cohort.crew import Crew
from fed_compute.simulator.cohort.data_checks import DataChecks
from fed_compute.simulator.cohort.effort import ROOM_VALUES, CohortResult, Effort, Step
from fed_compute.simulator.cohort.memory import Lender, Place, Segment
from fed_compute.simulator.cohort.origins import origin_of, why_only_here
from fed_compute.simulator.cohort.plan import STEADY, Plan, Steady
from fed_compute.simulator.cohort.shards import Shard
from fed_compute.simulator.cohort.training import GroupTrainer, Trainers

_WORTH_MORE_PROCESSES_SECONDS = 0.25
_Lent = tuple[Segment, Place]


class RemoteCrew(Protocol):
    """Trains calls elsewhere, with the bytes of this process. It was told of the data sets of its engine beforehand."""

    def train(self, task: Task, call: Call) -> None:
        """Train all clients of a call, whose data sets begin with the engine's."""
        ...

    def close(self) -> None:
        """End what was started for this engine."""
        ...


class CohortEngine:
    """Many virtual clients' local training, each within 1e-5 of what `client.trainer.train` gives from the same seed.

    Save where rounding decides: a ReLU of an input that is zero but for it may fall to either side, and Adam makes a
    step of a gradient that is nothing else.

    Which path trains them is measured at the first call of a job, see `calibration`, unless `plan` says it; "steady"
    takes the first that gives what the trainer gives, without measuring any time. Which one
    it is shows only in the rounding, but there it does. So for the same bytes again, give the plan of the first run:
    `str(engine.calibration.plan)` belongs into every report and every command that is to repeat a run. Nothing
    else that is measured or that depends on the machine's load has a part in the result: not the number of processes,
    not which of them trained whom. Other hardware or another PyTorch may round otherwise.

    `datasets` are laid into shared memory once; shards of other data sets cost a copy in each call. `processes` counts
    this one; None takes as many as there are cores, started after a quarter of a second of training. CUDA takes this
    one only, and the whole cohort at once. Use it in a `with`: at its end the other processes are gone. They, and their
    memory, go with this process as well, however it ends. A `remote` crew trains everything if there is one, and this
    process only chooses the plan. A model that other processes cannot import is trained in this one. Not for several
    threads at once.

    Raises:
        CohortUnsupported: if more processes than one are asked for where there cannot be.
        ExtraMissing: if CUDA is asked for and this torch finds none.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset] = (),
        *,
        processes: int | None = None,
        device: Device = "cpu",
        plan: Plan | Steady | None = None,
        remote: RemoteCrew | None = None,
    ) -> None:
        self._device = choose_device(device)
        self._processes = _usable_processes(processes, self._device)
        self._starts_at_once = processes is not None
        self._datasets = tuple(datasets)
        self._given_plan = plan
        self._trainers = Trainers(self._device)
        self._tasks: list[tuple[Task, Calibration]] = []
        self._data_checks = DataChecks()
        self._lender = Lender()
        self._crew: Crew | None = None
        self._running: Effort | None = None
        self._remote = remote
        self._seconds_trained = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def calibration(self) -> Calibration | None:
        """The plan of the last job that was trained, and why it was chosen; None before the first call."""
        return self._tasks[-1][1] if self._tasks else None

    def train(
        self,
        base: Vector,
        shards: Sequence[Shard],
        recipe: JobSpec,
        seeds: Sequence[int],
        *,
        schema: ParameterSchema | None = None,
        added: npt.NDArray[np.float32] | None = None,
    ) -> CohortResult:
        """Train each shard from `base`, shape (P,), with its own seed, as the recipe says.

        `schema` is the model's, needed for a plug-in. `added`, shape (n, P), is added to each step's gradient of each
        client. The deltas' memory is used again as soon as nobody refers to them, so results are not to be kept
        for long. Memory beyond them: a stack of parameters in each process, and each client's row numbers.

        Raises:
            ModelMismatch, ModelUnknown: if model, base and data do not fit together, found and wanted.
            DatasetInvalid: if a shard is empty.
            CohortUnsupported: if the plan that was given cannot train this model.
            WorkerLost: if another process ended before its work was done. The engine can go on with the next call.
        """
        return self.begin(base, shards, recipe, seeds, schema=schema, added=added).finish()

    def begin(
        self,
        base: Vector,
        shards: Sequence[Shard],
        recipe: JobSpec,
        seeds: Sequence[int],
        *,
        schema: ParameterSchema | None = None,
        added: npt.NDArray[np.float32] | None = None,
    ) -> Effort:
        """Begin what `train` does. Other processes, if there are any, go on while this one does something else.

        Nothing of what is given may change before it is done. Whatever was begun earlier is finished first.

        Raises:
            As `train`.
        """
        schema = schema or recipe.schema_of_model()
        _check_shapes(base, shards, seeds, added, schema)
        base = np.require(base, requirements=["C", "W"])  # torch shares no memory that must not be written
        added = None if added is None else np.require(added, requirements=["C", "W"])
        self._finish_running()
        if not shards:
            nothing = CohortResult(np.empty((0, schema.num_parameters), dtype=np.float32), np.empty(0))
            return Effort(nothing, np.empty(0, dtype=np.int64), list)
        rooms, losses, lent = self._room(len(shards), schema.num_parameters)
        result = CohortResult(rooms[:, rooms.shape[1] - schema.num_parameters :], losses, rooms)
        call = arrange(
            base, shards, seeds, recipe.training, known=self._datasets, deltas=result.deltas, losses=losses, added=added
        )
        self._data_checks.require_fit(call, recipe, schema)
        with _repeatable(self._device):
            step = self._start(self._task_of(recipe, schema, call), call, lent)
        self._running = Effort(result, call.places, lambda: self._go_on(step))
        return self._running

    def close(self) -> None:
        """End the other processes, whatever they do. The engine can still be used, and starts new ones if it must."""
        self._running = None
        if self._crew is not None:
            self._crew.close()
            self._crew = None
        if self._remote is not None:
            self._remote.close()
            self._remote = None

    def _start(self, task: Task, call: Call, lent: _Lent | None) -> Step:
        """Return what does the work, piece by piece; other processes are at it by then."""
        if (remote := self._remote) is not None:
            return lambda: _trained_by(remote, task, call)
        trainer, groups = self._trainers.of(task), groups_of(call.sources, task.plan.num_clients)
        is_alone = lent is None or why_only_here(task.job.model.name) is not None
        if lent is None or is_alone or not self._is_worth_processes(len(groups)):
            waiting = iter(groups)
            return lambda: _trained_here(trainer, call, next(waiting))
        crew, self._crew = self._crew or Crew(self._processes - 1, self._datasets), None
        crew.begin(task, call, trainer, lent, wait=self._starts_at_once)
        self._crew = crew
        return crew.step

    def _go_on(self, step: Step) -> list[slice]:
        """Do a piece of work. If that fails, the crew is gone, and the next call starts another."""
        started, is_done = time.perf_counter(), False
        try:
            with _repeatable(self._device):
                groups = list(step())
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)
            is_done = True
        finally:
            self._seconds_trained += time.perf_counter() - started
            if not is_done:
                self._running, self._crew = None, None
        return groups

    def _finish_running(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.finish()

    def _is_worth_processes(self, num_groups: int) -> bool:
        if self._processes == 1 or num_groups == 1:
            return False
        return self._starts_at_once or self._seconds_trained > _WORTH_MORE_PROCESSES_SECONDS

    def _task_of(self, job: JobSpec, schema: ParameterSchema, call: Call) -> Task:
        """Return the task of a job with its plan, chosen or checked at the job's first call."""
        for found in self._tasks:
            known = found[0]
            if (known.job.model, known.job.training, known.schema) == (job.model, job.training, schema):
                self._tasks.remove(found)
                self._tasks.append(found)
                return known
        if self._given_plan is None:
            calibration = calibrate(call, job, schema, self._device)
        elif self._given_plan == STEADY:
            calibration = settle(call, job, schema, self._device)
        else:
            calibration = Calibration(self._given_plan.filled(fitting_clients(call, job, schema, self._device)))
            check(call, Task(job, schema, calibration.plan), self._device)
        self._tasks.append((Task(job, schema, calibration.plan, origin_of(job.model.name)), calibration))
        return self._tasks[-1][0]

    def _room(self, count: int, length: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], _Lent | None]:
        """Return rows that end with deltas, room for losses, and where the rows lie if others can write there."""
        if self._device.type == "cuda":  # memory that the device can write to directly
            losses = torch.empty(count, dtype=torch.float64, pin_memory=True)
            return torch.empty(count, length, pin_memory=True).numpy(), losses.numpy(), None
        rooms, segment, place = self._lender.lend((count, ROOM_VALUES + length))
        return rooms, np.empty(count), (segment, place)


def _trained_here(trainer: GroupTrainer, call: Call, group: slice) -> list[slice]:
    trainer(call, group)
    return [group]


def _trained_by(remote: RemoteCrew, task: Task, call: Call) -> list[slice]:
    remote.train(task, call)
    return [slice(len(call))]


def _usable_processes(wanted: int | None, device: torch.device) -> int:
    if device.type == "cuda" or not hasattr(socket, "send_fds"):
        if wanted is not None and wanted > 1:
            where = "on CUDA, where all clients are trained at once" if device.type == "cuda" else "on this system"
            raise CohortUnsupported(f"{wanted} processes are not possible {where}; wanted 1")
        return 1
    if wanted is not None and wanted < 1:
        raise CohortUnsupported(f"{wanted} processes cannot train anything; wanted at least 1, or None for each core")
    return wanted or usable_cores()


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """Let torch compute so that sums come in the same order each time: in one thread, on CUDA in full float32."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    if device.type == "cpu":
        set_threads(1)
    precise = cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False)
    try:
        with precise if device.type == "cuda" else nullcontext():
            yield
    finally:
        set_threads(threads)


def _check_shapes(
    base: Vector,
    shards: Sequence[Shard],
    seeds: Sequence[int],
    added: npt.NDArray[np.float32] | None,
    schema: ParameterSchema,
) -> None:
    """Raise ModelMismatch unless all belong together."""
    length, count = schema.num_parameters, len(shards)
    if base.shape != (length,) or base.dtype != np.float32:
        raise ModelMismatch(f"base is {base.dtype} of shape {list(base.shape)}, the model takes float32 of [{length}]")
    if len(seeds) != count:
        raise ModelMismatch(f"there are {len(seeds)} seeds for {count} clients, wanted one for each")
    if added is not None and (added.shape != (count, length) or added.dtype != np.float32):
        raise ModelMismatch(f"added is {added.dtype} of shape {list(added.shape)}, wanted float32 of {[count, length]}")
