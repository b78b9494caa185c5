"""What an actor of a Ray cluster does: it trains pieces of calls, by the code that trains everywhere else."""

import warnings
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import ray
import torch

from fed_compute.client.datasets import Dataset
from fed_compute.client.trainer import set_threads
from fed_compute.errors import FedComputeError
from fed_compute.protocol.schema import Vector
from fed_compute.simulator.cohort.calls import Task, groups_of
from fed_compute.simulator.cohort.training import Trainers
from fed_compute.simulator.ray.pieces import Piece
from fed_compute.simulator.ray.surroundings import processor, versions

Results = tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]


class Introduction(TypedDict):
    """Who a worker is: plain data, so that another version can read it too."""

    node: str
    address: str
    versions: dict[str, str]
    processor: str


class PieceTrainer:
    """Trains pieces in one thread. Its data sets stay; they lie in memory that others map too and nobody may write.

    It lives in an actor: Ray makes it, calls it and ends it.
    """

    def __init__(self, *datasets: Dataset) -> None:
        set_threads(1)
        # Samples are only read. Copying them would take their memory once for each core instead of each machine.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self._datasets = datasets
        self._trainers = Trainers(torch.device("cpu"))
        self._task: Task | None = None

    def introduce(self) -> Introduction:
        """Say who this is; the first call of all, made when the actor has started."""
        return {
            "node": ray.get_runtime_context().get_node_id(),
            "address": ray.util.get_node_ip_address(),
            "versions": versions(),
            "processor": processor(),
        }

    def train(self, task: Task, base: Vector, piece: Piece, *visiting: Dataset) -> Results:
        """Return the deltas, shape (k, P), and losses, shape (k,), of a piece's clients in training order.

        Raises:
            RuntimeError: for each error of ours. Ray makes an error anew from its text, which ours are not made from.
        """
        try:
            return self._train(task, base, piece, visiting)
        except FedComputeError as error:
            raise RuntimeError(f"{error.code}: {error.message}") from error

    def _train(self, task: Task, base: Vector, piece: Piece, visiting: tuple[Dataset, ...]) -> Results:
        if task != self._task:
            self._task = task  # an equal one keeps the trainer, whose model is built and whose memory is warm
        call = piece.call(np.require(base, requirements=["C", "W"]), (*self._datasets, *visiting))
        trainer = self._trainers.of(self._task)
        for group in groups_of(call.sources, task.plan.num_clients):
            trainer(call, group)
        return call.deltas, call.losses
