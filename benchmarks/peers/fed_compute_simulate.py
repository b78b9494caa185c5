"""A workload by the product's `simulate`, as its users call it. Arguments: folder, workload, rounds, measure every."""

import sys
from pathlib import Path

from workload import BATCH, CLIENTS, COHORT, LR, tell

from fed_compute.simulator import simulate
from fed_compute.simulator.history import RoundRow

MODELS = {
    "mlp": {"name": "simple_mlp", "args": {"input_dim": 784, "hidden": [128, 64], "output_dim": 10}},
    "cnn": {"name": "small_cnn", "args": {"height": 28, "width": 28, "output_dim": 10}},
}


def main(folder: Path, workload: str, rounds: int, every: int) -> None:
    """Train the workload, on shards of the size that all have: four fifths of the pictures, cut evenly."""
    cohort = COHORT[workload]
    job = {
        "model": MODELS[workload],
        "training": {"lr": LR, "batch_size": BATCH},
        "rounds": {"total": rounds, "target_updates": cohort, "min_updates": cohort, "over_selection": 1.0},
        "evaluation": {"every_rounds": 0},  # by the clients; here as elsewhere the model is measured centrally
    }

    def on_round(row: RoundRow) -> None:
        tell(row.round, row.accuracy)

    data = f"npz:{folder / 'pictures.npz'}"
    simulate(job, clients=CLIENTS, data=data, measure_every=every, on_round=on_round)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
