"""Processes that train beside this one."""

import os
import select
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import IO

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets import Dataset
from fed_compute.errors import WorkerLost
from fed_compute.simulator.cohort.calls import Call, Task, groups_of
from fed_compute.simulator.cohort.library import LaidOut, put, room_of
from fed_compute.simulator.cohort.memory import Place, Segment, room_for
from fed_compute.simulator.cohort.messages import COPIED, READY, Order, SharedDataset, send_order
from fed_compute.simulator.cohort.training import GroupTrainer
from fed_compute.simulator.cohort.work_queue import NOTHING_LEFT, NUMBER_BYTES, WorkQueue, take
from fed_compute.simulator.endings import ending_of


@dataclass(frozen=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    said: IO[bytes]


@dataclass(frozen=True, eq=False)
class _Work:
    """A call that is being worked on, and what others are told of it. All write losses to `shared`."""

    call: Call
    order: Order
    trainer: GroupTrainer
    groups: Sequence[slice]
    shared: npt.NDArray[np.float64]
    taken: list[int] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether all its numbers were taken in."""
        return len(self.taken) * self.order.each >= len(self.groups)

    def train(self, number: int) -> None:
        """Do what a number stands for."""
        here = replace(self.call, losses=self.shared)
        for group in self._of(number):
            self.trainer(here, group)

    def taken_in(self, numbers: Sequence[int]) -> list[slice]:
        """Return the groups of numbers that are done, their losses in the call."""
        self.taken.extend(numbers)
        found = [group for number in numbers for group in self._of(number)]
        for group in found:
            places = self.call.places[group]
            self.call.losses[places] = self.shared[places]
        return found

    def _of(self, number: int) -> Sequence[slice]:
        each = self.order.each
        return self.groups[number * each : (number + 1) * each]


class Crew:
    """Worker processes, and the memory that they share with this one.

    They hear no Ctrl-C: this process does, and ends them. They also end by themselves as soon as it is gone, and
    the memory has no name, so neither processes nor files stay behind. Not for Windows, which cannot hand over memory.
    """

    def __init__(self, size: int, datasets: Sequence[Dataset]) -> None:
        self._queue = WorkQueue()
        self._workers = [_start(self._queue.take_fd) for _ in range(size)]
        self._ready: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._work: _Work | None = None
        self._desk = Segment(0)
        loose = [dataset for dataset in datasets if not isinstance(dataset, LaidOut)]
        library = Segment(sum(room_of(dataset) for dataset in loose))
        lying = [dataset for dataset in datasets if isinstance(dataset, LaidOut)]
        self._shelves = [library, *(dataset.segment for dataset in lying)]
        self._shared: dict[Dataset, SharedDataset] = {dataset: put(library, dataset) for dataset in loose} | {
            one: one.shared for one in lying
        }
        self._end = weakref.finalize(self, _end, self._workers, self._queue)

    def begin(self, task: Task, call: Call, trainer: GroupTrainer, lent: tuple[Segment, Place], *, wait: bool) -> None:
        """Let the other processes train the clients of a call whose deltas are `lent`; what was begun before is done.

        Those take part that are ready by now, and others from when they are, two seconds or so after their start; with
        `wait` all of them from the beginning.

        Raises:
            WorkerLost: if a process ended before its work was done. Then the call is not to be used, nor this crew.
        """
        with self._closed_if_it_fails():
            self._gather(wait=wait)
            while self._busy:
                self._hear(wait=True)
            order, losses = self._order(task, call, lent)
            groups = groups_of(call.sources, task.plan.num_clients)
            order = replace(order, each=self._queue.fill(len(groups)))
            for worker in self._ready:
                _tell(worker, order)
            self._busy, self._work = list(self._ready), _Work(call, order, trainer, groups, losses)

    def step(self) -> list[slice]:
        """Return the groups that others have done since this was last asked; if there are none, do some, or wait.

        Raises:
            WorkerLost: as `begin`.
        """
        if self._work is None:
            raise RuntimeError("nothing was begun")
        with self._closed_if_it_fails():
            for worker in self._gather(wait=False):
                _tell(worker, self._work.order)
                self._busy.append(worker)
            done = self._hear(wait=False)
            if not done and (number := take(self._queue.take_fd)) is not None:
                self._work.train(number)
                done = [number]
            groups = self._work.taken_in(done or self._hear(wait=True))
            if self._work.is_done:
                self._work = None  # others may have its memory
            return groups

    def close(self) -> None:
        """End the processes at once. Closing again does nothing."""
        self._end()

    @contextmanager
    def _closed_if_it_fails(self) -> Iterator[None]:
        finished = False
        try:
            yield
            finished = True
        finally:
            if not finished:
                self.close()

    def _gather(self, *, wait: bool) -> list[_Worker]:
        """Return those who are ready since this was last asked; with `wait` all who have not been ready yet."""
        new: list[_Worker] = []
        for worker in [one for one in self._workers if one not in self._ready]:
            if wait or select.select([worker.channel], [], [], 0)[0]:
                _word_of(worker, len(READY))
                new.append(worker)
        self._ready += new
        return new

    def _hear(self, *, wait: bool) -> list[int]:
        """Return the numbers that others have done since this was last asked; with `wait` at least a word of one."""
        speaking = select.select([worker.channel for worker in self._busy], [], [], None if wait else 0)[0]
        done: list[int] = []
        for worker in [one for one in self._busy if one.channel in speaking]:
            number = int.from_bytes(_word_of(worker, NUMBER_BYTES))
            if number == NOTHING_LEFT:
                self._busy.remove(worker)
            else:
                done.append(number)
        return done

    def _order(self, task: Task, call: Call, lent: tuple[Segment, Place]) -> tuple[Order, npt.NDArray[np.float64]]:
        """Lay out on the desk what the others need to know; return that, and where all write their losses."""
        segment, deltas = lent
        arrays = {name: getattr(call, name) for name in COPIED if getattr(call, name) is not None}
        visiting = [dataset for dataset in call.datasets if dataset not in self._shared]
        num_bytes = sum(room_for(one.shape, one.dtype) for one in [*arrays.values(), call.losses])
        num_bytes += sum(room_of(dataset) for dataset in visiting)
        self._desk = self._desk.cleared() if self._desk.num_bytes >= num_bytes else Segment(num_bytes)
        places = {name: self._desk.copy(array) for name, array in arrays.items()}
        losses, place = self._desk.array(call.losses.shape, np.float64)
        places |= {"losses": place, "deltas": deltas}
        datasets = [self._shared.get(dataset) or put(self._desk, dataset) for dataset in call.datasets]
        return Order(task, places, datasets, [*self._shelves, self._desk, segment]), losses


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


def _word_of(worker: _Worker, length: int) -> bytes:
    """Wait for the worker's next word, so many bytes."""
    try:
        word = worker.channel.recv(length, socket.MSG_WAITALL)
    except OSError as error:
        raise _lost(worker) from error
    if len(word) < length:
        raise _lost(worker)
    return word


def _lost(worker: _Worker) -> WorkerLost:
    how, last = ending_of(worker.process, worker.said)
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
