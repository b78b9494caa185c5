"""A process that trains groups of clients for another: `python -m fed_compute.simulator.cohort.worker`.

It ends when the other side does, however that ends. An error ends it too; what it wrote about that is on its
standard error.
"""

import socket
import sys

import torch

from fed_compute.client.trainer import set_threads
from fed_compute.simulator.cohort.calls import Task, groups_of
from fed_compute.simulator.cohort.messages import OrderReader
from fed_compute.simulator.cohort.training import GroupTrainer, make_trainer
from fed_compute.simulator.cohort.work_queue import take

READY, DONE = b"r", b"d"


def main(channel_fd: int, queue_fd: int) -> None:
    """Carry out orders until there are no more."""
    set_threads(1)
    channel = socket.socket(fileno=channel_fd)
    reader, trainers = OrderReader(channel), Trainers(torch.device("cpu"))
    channel.sendall(READY)
    while (order := reader.read()) is not None:
        task, call, each = order
        trainer, groups = trainers.of(task), groups_of(call.sources, task.plan.clients_at_once)
        while (number := take(queue_fd)) is not None:
            for group in groups[number * each : (number + 1) * each]:
                trainer(call, group)
        channel.sendall(DONE)


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


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]))
    except OSError:
        sys.exit(0)  # the other side is gone, and with it everybody who could be told
