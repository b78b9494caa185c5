"""What a process tells another about a call: plain data, and the memory that goes with it."""

import itertools
import json
import mmap
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fed_compute.client.datasets import Dataset
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.simulator.cohort.calls import Call, Task
from fed_compute.simulator.cohort.memory import Place, Segment, mapped
from fed_compute.simulator.cohort.plan import Plan

_LENGTH_BYTES = 8
_MOST_SEGMENTS = 250  # as many descriptors as one message may carry, nearly
READY = b"r"
"""A worker's first word; later ones are numbers of the work queue."""
COPIED = ("base", "sources", "rows", "bounds", "seeds", "places", "added")
"""The arrays of a call that are only read."""


@dataclass(frozen=True)
class SharedDataset:
    """A data set in shared memory. Its number is its own: another one may lie at the same place later."""

    x: Place
    y: Place
    name: str
    number: int = field(default_factory=itertools.count().__next__)


@dataclass(frozen=True)
class Order:
    """A call as another process can carry it out: where its arrays lie, and in which segments.

    A number of the work queue stands for `each` groups.
    """

    task: Task
    arrays: Mapping[str, Place]
    datasets: Sequence[SharedDataset]
    segments: Sequence[Segment]
    each: int = 1


def send_order(channel: socket.socket, order: Order) -> None:
    """Send an order with the descriptors of its segments.

    Raises:
        OSError: if the other side is gone.
    """
    content = {
        "job": order.task.job.model_dump_json(),
        "schema": json.dumps(order.task.schema.to_json()),
        "plan": str(order.task.plan),
        "origin": order.task.origin,
        "each": order.each,
        "arrays": {name: asdict(place) for name, place in order.arrays.items()},
        "datasets": [asdict(dataset) for dataset in order.datasets],
        "segments": [[segment.number, segment.num_bytes] for segment in order.segments],
    }
    text = json.dumps(content).encode()
    socket.send_fds(channel, [len(text).to_bytes(_LENGTH_BYTES)], [segment.fd for segment in order.segments])
    channel.sendall(text)


class OrderReader:
    """Reads orders from a channel. Tasks that it knows from the last order, and segments from the last two, stay.

    Results lie in two segments by turns, and whoever maps memory anew faults on each page of it.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._maps: dict[int, mmap.mmap] = {}
        self._last_maps: dict[int, mmap.mmap] = {}
        self._datasets: dict[SharedDataset, Dataset] = {}
        self._task: tuple[tuple[str | None, ...], Task] | None = None

    def read(self) -> tuple[Task, Call, int] | None:
        """Wait for the next order: the task, the call, and for how many groups a number stands. None: no more."""
        head, fds, _, _ = socket.recv_fds(self._channel, _LENGTH_BYTES, _MOST_SEGMENTS)
        text = self._channel.recv(int.from_bytes(head), socket.MSG_WAITALL) if len(head) == _LENGTH_BYTES else b""
        if not text:
            return None
        content = json.loads(text)
        self._map(content["segments"], fds)
        self._datasets = dict(self._dataset(found) for found in content["datasets"])
        datasets = tuple(self._datasets.values())
        arrays = {name: self._array(place) for name, place in content["arrays"].items()}
        arrays["deltas"] = arrays["deltas"][:, -len(arrays["base"]) :]  # they end the rows that they lie in
        return self._task_of(content), Call(datasets=datasets, **{"added": None, **arrays}), content["each"]

    def _map(self, segments: Sequence[tuple[int, int]], fds: Sequence[int]) -> None:
        known = self._last_maps | self._maps
        self._last_maps, self._maps = self._maps, {}
        for (number, num_bytes), fd in zip(segments, fds, strict=True):
            self._maps[number] = known.get(number) or mmap.mmap(fd, num_bytes)
            os.close(fd)

    def _array(self, place: Mapping[str, Any]) -> Any:
        return mapped(self._maps[place["segment"]], _place(place))

    def _dataset(self, found: Mapping[str, Any]) -> tuple[SharedDataset, Dataset]:
        key = SharedDataset(_place(found["x"]), _place(found["y"]), found["name"], found["number"])
        known = self._datasets.get(key)
        return key, known or Dataset(self._array(found["x"]), self._array(found["y"]), found["name"])

    def _task_of(self, content: Mapping[str, Any]) -> Task:
        key = content["job"], content["schema"], content["plan"], content["origin"]
        if self._task is None or self._task[0] != key:
            job = JobSpec.model_validate_json(content["job"])
            schema = ParameterSchema.from_json(json.loads(content["schema"]))
            self._task = key, Task(job, schema, Plan.parse(content["plan"]), content["origin"])
        return self._task[1]


def _place(found: Mapping[str, Any]) -> Place:
    return Place(found["segment"], found["offset"], found["dtype"], tuple(found["shape"]))
