"""The MLP on Flower's simulation engine, in the environment of `flwr.txt`. Arguments: folder, rounds."""

import os
import sys
from pathlib import Path

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ADDRESS": "local"}

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from workload import CLIENTS, COHORT, EXAMPLES, Pictures, new_model, tell
from workload import train as train_one

FOLDER, ROUNDS, PER_ROUND = Path(sys.argv[1]), int(sys.argv[2]), COHORT["mlp"]
loaded: list[Pictures] = []
client_app, server_app = ClientApp(), ServerApp()


def pictures() -> Pictures:
    """Return the pictures, which each process loads once."""
    if not loaded:
        torch.set_num_threads(1)
        loaded.append(Pictures(FOLDER))
    return loaded[0]


@client_app.train()
def train(message: Message, context: Context) -> Message:
    model, own = new_model("mlp"), pictures().shard(int(context.node_config["partition-id"]))
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    train_one(model, *own)
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": EXAMPLES})}
    return Message(content=RecordDict(content), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        model = new_model("mlp")
        model.load_state_dict(arrays.to_torch_state_dict())
        accuracy = pictures().accuracy(model)
        if number:  # 0 is the model before the first round
            tell(number, accuracy)
        return MetricRecord({"accuracy": accuracy})

    share = PER_ROUND / CLIENTS
    strategy = FedAvg(
        fraction_train=share, fraction_evaluate=0.0, min_train_nodes=PER_ROUND, min_available_nodes=CLIENTS
    )
    strategy.start(grid, ArrayRecord(new_model("mlp").state_dict()), num_rounds=ROUNDS, evaluate_fn=evaluate)


run_simulation(server_app, client_app, CLIENTS, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}})
