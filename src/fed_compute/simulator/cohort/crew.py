"""Processes that train beside this one."""

import os
import select
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets import Dataset
from fed_compute.errors import WorkerLost
from fed_compute.simulator.cohort.calls import Call, Task, groups_of
from fed_compute.simulator.cohort.memory import Place, Segment, room_for
from fed_compute.simulator.cohort.messages import COPIED, Order, SharedDataset, send_order
from fed_compute.simulator.cohort.training import GroupTrainer
from fed_compute.simulator.cohort.work_queue import WorkQueue, take

_LONGEST_WORDS = 400


@dataclass(frozen=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    said: IO[bytes]


class Crew:
    """Worker processes, and the memory that they share with this one.

    They hear no Ctrl-C: this process does, and ends them. They also end by themselves as soon as it is gone, and
    the memory has no name, so neither processes nor files stay behind. Not for Windows, which cannot hand over memory.
    """

    def __init__(self, size: int, datasets: Sequence[Dataset]) -> None:
        self._queue = WorkQueue()
        self._workers = [_start(self._queue.take_fd) for _ in range(size)]
        self._ready: list[_Worker] = []
        self._desk = Segment(0)
        self._library = Segment(sum(_room_for(dataset) for dataset in datasets))
        self._shared = {dataset: _put(self._library, dataset) for dataset in datasets}
        self._end = weakref.finalize(self, _end, self._workers, self._queue)

    def train(self, task: Task, call: Call, trainer: GroupTrainer, lent: tuple[Segment, Place], *, wait: bool) -> None:
        """Train all clients of a call whose deltas are `lent`, here and in the other processes.

        Those take part that are ready by now; with `wait` all of them, who take two seconds or so to start.

        Raises:
            WorkerLost: if a process ended before its work was done. Then the call is not to be used, nor this crew.
        """
        finished = False
        try:
            self._gather(wait=wait)
            order, losses = self._order(task, call, lent)
            groups = groups_of(call.sources, task.plan.num_clients)
            each = self._queue.fill(len(groups))
            for worker in self._ready:
                _tell(worker, replace(order, each=each))
            here = replace(call, losses=losses)
            while (number := take(self._queue.take_fd)) is not None:
                for group in groups[number * each : (number + 1) * each]:
                    trainer(here, group)
            for worker in self._ready:
                _hear(worker)
            call.losses[:] = losses
            finished = True
        finally:
            if not finished:
                self.close()

    def close(self) -> None:
        """End the processes at once. Closing again does nothing."""
        self._end()

    def _gather(self, *, wait: bool) -> None:
        for worker in [one for one in self._workers if one not in self._ready]:
            if wait or select.select([worker.channel], [], [], 0)[0]:
                _hear(worker)
                self._ready.append(worker)

    def _order(self, task: Task, call: Call, lent: tuple[Segment, Place]) -> tuple[Order, npt.NDArray[np.float64]]:
        """Lay out on the desk what the others need to know; return that, and where all write their losses."""
        segment, deltas = lent
        arrays = {name: getattr(call, name) for name in COPIED if getattr(call, name) is not None}
        visiting = [dataset for dataset in call.datasets if dataset not in self._shared]
        num_bytes = sum(room_for(one.shape, one.dtype) for one in [*arrays.values(), call.losses])
        num_bytes += sum(_room_for(dataset) for dataset in visiting)
        self._desk = self._desk.cleared() if self._desk.num_bytes >= num_bytes else Segment(num_bytes)
        places = {name: self._desk.copy(array) for name, array in arrays.items()}
        losses, place = self._desk.array(call.losses.shape, np.float64)
        places |= {"losses": place, "deltas": deltas}
        datasets = [self._shared.get(dataset) or _put(self._desk, dataset) for dataset in call.datasets]
        return Order(task, places, datasets, [self._library, self._desk, segment]), losses


def _start(queue_fd: int) -> _Worker:
    here, there = socket.socketpair()
    said = tempfile.TemporaryFile()  # noqa: SIM115 closed with the crew
    command = [sys.executable, "-m", "fed_compute.simulator.cohort.worker", str(there.fileno()), str(queue_fd)]
    with there:
        process = subprocess.Popen(  # noqa: S603 our own program
            command,
            stdin=subprocess.DEVNULL,
            stderr=said,
            pass_fds=(there.fileno(), queue_fd),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            process_group=0,  # out of reach of Ctrl-C
        )
    return _Worker(process, here, said)


def _tell(worker: _Worker, order: Order) -> None:
    try:
        send_order(worker.channel, order)
    except OSError as error:
        raise _lost(worker) from error


def _hear(worker: _Worker) -> None:
    """Wait for the worker's next word."""
    try:
        word = worker.channel.recv(1)
    except OSError as error:
        raise _lost(worker) from error
    if not word:
        raise _lost(worker)


def _lost(worker: _Worker) -> WorkerLost:
    status = worker.process.wait()
    worker.said.seek(0)
    words = worker.said.read().decode(errors="replace").strip().splitlines()
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    last = f", its last words: {words[-1][:_LONGEST_WORDS]}" if words else ""
    return WorkerLost(
        f"training process {worker.process.pid} {how} before its work was done{last}; this round's results are lost; "
        "if memory is short, run again with fewer processes"
    )


def _end(workers: Sequence[_Worker], queue: WorkQueue) -> None:
    for worker in workers:
        worker.process.kill()
        worker.process.wait()
        worker.channel.close()
        worker.said.close()
    queue.close()


def _room_for(dataset: Dataset) -> int:
    return room_for(dataset.x.shape, dataset.x.dtype) + room_for(dataset.y.shape, dataset.y.dtype)


def _put(segment: Segment, dataset: Dataset) -> SharedDataset:
    return SharedDataset(segment.copy(dataset.x), segment.copy(dataset.y), dataset.name)
