"""Does a simulation with a million registered clients fit into the memory of a small machine?

`simulate` itself, with the whole coordinator and real training: a perceptron for handwritten digits, 16 samples a
client, 1,000 clients a round. Every client is registered. Told are the seconds until the first round has ended, which
is mostly enrolment, clients a second from then on, and the highest memory of all processes together (PSS), with this
benchmark's own libraries.

Exits with 1 if that is more than 4 GiB, or a round lacks a client.
"""

import argparse
import json
import os
import sys
import time

from peers import Scale, machine
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fed_compute.simulator import Report, simulate
from fed_compute.simulator.history import RoundRow

MOST_MIB = 4096.0
JOB = {
    "model": {"name": "simple_mlp", "args": {"input_dim": 64, "hidden_dim": 32, "output_dim": 10}},
    "training": {"batch_size": 16},
    "evaluation": {"every_rounds": 0},
}


def main() -> int:
    """Simulate, show the figures, and say whether the claim holds."""
    options = _options()
    began = time.monotonic()
    with Scale() as scale:
        scale.weigh(os.getpid())
        report, ended = run(options.clients, options.per_round, options.rounds)
    peak_mib, steady = scale.peak_bytes / 2**20, ended[-1] - ended[0]
    found = {
        "machine": machine(),
        "clients": options.clients,
        "clients_per_round": options.per_round,
        "rounds": len(ended),
        "first_round_seconds": round(ended[0] - began, 1),
        "clients_per_second": round(options.per_round * (len(ended) - 1) / steady) if steady else None,
        "peak_mib": round(peak_mib),
        "most_mib": MOST_MIB,
        "accuracy": report.accuracy,
        "holds": peak_mib <= MOST_MIB and all(row.num_updates == options.per_round for row in report.rounds),
    }
    print(json.dumps(found, indent=None if options.json else 1))
    return 0 if found["holds"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1_000_000, help="registered (default %(default)s)")
    parser.add_argument("--per-round", type=int, default=1_000, help="clients of a round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="(default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser.parse_args()


def run(clients: int, per_round: int, rounds: int) -> tuple[Report, list[float]]:
    """Simulate with a bar on standard error; return the report, and when each round ended by the monotonic clock."""
    counts = {"total": rounds, "target_updates": per_round, "min_updates": per_round, "over_selection": 1.0}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    ended: list[float] = []
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(f"registering {clients:,} clients", total=rounds)

        def on_round(row: RoundRow) -> None:
            ended.append(time.monotonic())
            progress.update(task, description=f"{clients:,} clients, rounds", completed=row.round)

        job = {**JOB, "rounds": counts}
        return simulate(job, clients=clients, samples_per_client=16, measure_every=10, on_round=on_round), ended


if __name__ == "__main__":
    raise SystemExit(main())
