"""The MLP workload on Flower's simulation engine. Runs in an environment of its own: `flwr[simulation]` and torch.

Arguments: an `.npz` file with `x` (N, 784) float32 and `y` (N,) int64, rounds, clients a round, examples a client.
Prints one JSON line: clients trained a second after the first round, and the peak of memory of all processes.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_DEDUP_LOGS"] = "0"

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import nn
from torch.nn import functional as F

DATA, ROUNDS, COHORT, EXAMPLES = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
CLIENTS, LR, BATCH = 500, 0.1, 32
ends: list[float] = []
loaded: dict[str, torch.Tensor] = {}
client_app, server_app = ClientApp(), ServerApp()


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def shard(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    if not loaded:
        torch.set_num_threads(1)
        with np.load(DATA) as file:
            loaded.update(x=torch.from_numpy(file["x"]), y=torch.from_numpy(file["y"]))
    start = number * EXAMPLES % (len(loaded["x"]) - EXAMPLES)
    return loaded["x"][start : start + EXAMPLES], loaded["y"][start : start + EXAMPLES]


@client_app.train()
def train(message: Message, context: Context) -> Message:
    inputs, classes = shard(int(context.node_config["partition-id"]))
    model = net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for rows in torch.randperm(EXAMPLES).split(BATCH):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[rows]), classes[rows]).backward()
        optimizer.step()
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": EXAMPLES})}
    return Message(content=RecordDict(content), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    def note(number: int, arrays: ArrayRecord) -> MetricRecord:
        ends.append(time.perf_counter())
        return MetricRecord({"round": number})

    share = COHORT / CLIENTS
    strategy = FedAvg(fraction_train=share, fraction_evaluate=0.0, min_train_nodes=COHORT, min_available_nodes=CLIENTS)
    strategy.start(grid, ArrayRecord(net().state_dict()), num_rounds=ROUNDS, evaluate_fn=note)


run_simulation(server_app, client_app, CLIENTS, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}})
# ends[0] is before the first round, in which the workers start.
print(json.dumps({"clients_per_second": COHORT * (len(ends) - 2) / (ends[-1] - ends[1]), "rounds": len(ends) - 1}))
