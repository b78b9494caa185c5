"""The MLP on pfl-research's simulated backend, in the environment of `pfl.txt`.

Arguments: folder, rounds, measure every, threads.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops.selector import get_default_framework_module as get_ops
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import nn
from torch.nn import functional as F
from workload import BATCH, CLIENTS, COHORT, EXAMPLES, LR, Pictures, is_measured, new_model, tell

FOLDER, (ROUNDS, EVERY, THREADS) = Path(sys.argv[1]), map(int, sys.argv[2:])
LEAVING_SECONDS = 1.0
torch.set_num_threads(THREADS)
pictures = Pictures(FOLDER)


class Net(nn.Module):
    """The model with what pfl asks of one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = new_model("mlp")

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs)

    def loss(self, inputs: torch.Tensor, classes: torch.Tensor, eval: bool = False) -> torch.Tensor:
        self.train(not eval)
        return F.cross_entropy(self(inputs), classes)

    def metrics(self, inputs: torch.Tensor, classes: torch.Tensor, eval: bool = True) -> dict[str, Any]:
        return {"loss": Weighted(self.loss(inputs, classes, eval).item() * len(classes), len(classes))}


class Measure(TrainingProcessCallback):
    """Measures the model when it is due, as pfl's own benchmarks do every tenth round; the first process does."""

    def after_central_iteration(self, aggregate_metrics: Metrics, model: Any, *, central_iteration: int) -> Any:
        number = central_iteration + 1
        if get_ops().distributed.global_rank == 0:
            tell(number, pictures.accuracy(net) if is_measured(number, every=EVERY, rounds=ROUNDS) else None)
        return False, Metrics()


def shard(client: int) -> Dataset:
    return Dataset(pictures.shard(client), user_id=str(client))


users, net = FederatedDataset(shard, get_user_sampler("random", list(range(CLIENTS)))), Net()
model = PyTorchModel(
    net, local_optimizer_create=torch.optim.SGD, central_optimizer=torch.optim.SGD(net.parameters(), lr=1.0)
)
FederatedAveraging().run(
    NNAlgorithmParams(
        central_num_iterations=ROUNDS,
        evaluation_frequency=10**9,  # of each client's loss, which nobody else measures
        train_cohort_size=COHORT["mlp"],
        val_cohort_size=0,
    ),
    SimulatedBackend(training_data=users, val_data=users),
    model,
    NNTrainHyperParams(local_num_epochs=1, local_learning_rate=LR, local_batch_size=BATCH),
    NNEvalHyperParams(local_batch_size=EXAMPLES),
    [Measure()],
)
if torch.distributed.is_initialized():  # a process that leaves while another still talks to it aborts that one
    torch.distributed.barrier()
    time.sleep(LEAVING_SECONDS)  # until the others have heard of the barrier too
    sys.stdout.flush()
    os._exit(0)  # with no word to them
