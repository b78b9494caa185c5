"""The MLP workload on pfl-research's simulated backend. Runs in an environment of its own: `pfl[pytorch]`.

Arguments: an `.npz` file with `x` (N, 784) float32 and `y` (N,) int64, rounds, clients a round, examples a client.
Prints one JSON line: clients trained a second after the first round.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import nn
from torch.nn import functional as F

ROUNDS, COHORT, EXAMPLES = (int(word) for word in sys.argv[2:5])
THREADS = int(sys.argv[5]) if len(sys.argv) > 5 else 1
CLIENTS, LR, BATCH = 500, 0.1, 32
torch.set_num_threads(THREADS)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs)

    def loss(self, inputs: torch.Tensor, classes: torch.Tensor, eval: bool = False) -> torch.Tensor:
        self.train(not eval)
        return F.cross_entropy(self(inputs), classes)

    def metrics(self, inputs: torch.Tensor, classes: torch.Tensor, eval: bool = True) -> dict[str, Any]:
        return {"loss": Weighted(self.loss(inputs, classes, eval).item() * len(classes), len(classes))}


class Stopwatch(TrainingProcessCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_central_iteration(self, aggregate_metrics: Metrics, model: Any, *, central_iteration: int) -> Any:
        self.ends.append(time.perf_counter())
        return False, Metrics()


with np.load(sys.argv[1]) as file:
    inputs, classes = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])


def shard(number: int) -> Dataset:
    start = number * EXAMPLES % (len(inputs) - EXAMPLES)
    return Dataset((inputs[start : start + EXAMPLES], classes[start : start + EXAMPLES]), user_id=str(number))


users = FederatedDataset(shard, get_user_sampler("random", list(range(CLIENTS))))
net, watch = Net(), Stopwatch()
model = PyTorchModel(
    net, local_optimizer_create=torch.optim.SGD, central_optimizer=torch.optim.SGD(net.parameters(), lr=1.0)
)
FederatedAveraging().run(
    NNAlgorithmParams(
        central_num_iterations=ROUNDS, evaluation_frequency=10**9, train_cohort_size=COHORT, val_cohort_size=0
    ),
    SimulatedBackend(training_data=users, val_data=users),
    model,
    NNTrainHyperParams(local_num_epochs=1, local_learning_rate=LR, local_batch_size=BATCH),
    NNEvalHyperParams(local_batch_size=EXAMPLES),
    [watch],
)
rate = COHORT * (len(watch.ends) - 1) / (watch.ends[-1] - watch.ends[0])
print(json.dumps({"clients_per_second": rate, "rounds": len(watch.ends)}))
