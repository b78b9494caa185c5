"""A process that trains groups of clients for another: `python -m fed_compute.simulator.cohort.worker`.

It ends when the other side does, however that ends. An error ends it too; what it wrote about that is on its
standard error.
"""

import socket
import sys

import torch

from fed_compute.client.trainer import set_threads
from fed_compute.simulator.cohort.calls import groups_of
from fed_compute.simulator.cohort.messages import READY, OrderReader
from fed_compute.simulator.cohort.training import Trainers
from fed_compute.simulator.cohort.work_queue import NOTHING_LEFT, as_bytes, take


def main(channel_fd: int, queue_fd: int) -> None:
    """Carry out orders until there are no more."""
    set_threads(1)
    channel = socket.socket(fileno=channel_fd)
    reader, trainers = OrderReader(channel), Trainers(torch.device("cpu"))
    channel.sendall(READY)
    while (order := reader.read()) is not None:
        task, call, each = order
        trainer, groups = trainers.of(task), groups_of(call.sources, task.plan.num_clients)
        while (number := take(queue_fd)) is not None:
            for group in groups[number * each : (number + 1) * each]:
                trainer(call, group)
            channel.sendall(as_bytes(number))
        channel.sendall(as_bytes(NOTHING_LEFT))


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]))
    except OSError:
        sys.exit(0)  # the other side is gone, and with it everybody who could be told
