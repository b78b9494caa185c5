"""The MLP on Flower's simulation engine, in the environment of `flwr.txt`. Arguments: folder, rounds, measure every."""

import os
import sys
from pathlib import Path

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ADDRESS": "local"}
os.environ |= {"PYTHONPATH": str(Path(__file__).parent), "PEERS_FOLDER": sys.argv[1]}  # workers inherit nothing else

from flower_client import client_app, pictures
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from workload import CLIENTS, COHORT, is_measured, new_model, tell

ROUNDS, EVERY, PER_ROUND = int(sys.argv[2]), int(sys.argv[3]), COHORT["mlp"]
server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        if number == 0:  # the model before the first round
            return None
        model, accuracy = new_model("mlp"), None
        if is_measured(number, every=EVERY, rounds=ROUNDS):
            model.load_state_dict(arrays.to_torch_state_dict())
            accuracy = pictures().accuracy(model)
        tell(number, accuracy)
        return None if accuracy is None else MetricRecord({"accuracy": accuracy})

    share = PER_ROUND / CLIENTS
    strategy = FedAvg(
        fraction_train=share, fraction_evaluate=0.0, min_train_nodes=PER_ROUND, min_available_nodes=CLIENTS
    )
    strategy.start(grid, ArrayRecord(new_model("mlp").state_dict()), num_rounds=ROUNDS, evaluate_fn=evaluate)


run_simulation(
    server_app,
    client_app,
    CLIENTS,
    backend_config={
        "init_args": {"include_dashboard": False},
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    },
)
