"""How many virtual clients a second train here, and how does that compare with plain PyTorch?

Fashion-MNIST (Debian's `dataset-fashion-mnist`, else digits resized), 64 samples a client, batch 32, one local epoch,
SGD, 100 clients a round, for the CNN 20; the training alone, without the coordinator. Three ways, in turns, so that
whoever else uses the machine disturbs all of them alike:

    bare    a PyTorch loop over the clients, as in `make bench-peers`: a plain module, cross_entropy, backward,
            torch.optim.SGD; one process
    vmap    torch.func.vmap over as many clients as fit the cache, in as many processes as there are cores
    ours    the path that the engine chooses, in as many processes

Clients a second are medians of the turns, and so are clients a second of processor time, which others on the machine
disturb less. Exits with 1 unless ours is 2.2 times as fast as the faster bare loop for the MLP, and 1.25 times for the
CNN, and has the same deltas: within 1e-5, but for one client in fifty, where a ReLU's input is zero but for rounding
and may fall to either side.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from fed_compute.client.datasets import Dataset, load_dataset
from fed_compute.errors import DatasetMissing
from fed_compute.protocol.job import JobSpec, parse_job
from fed_compute.protocol.schema import Vector, draw_initial
from fed_compute.simulator.cohort import CohortEngine, Plan, Shard, TrainingPath
from fed_compute.simulator.cohort.plan import stack_size

sys.path.append(str(Path(__file__).parent / "peers"))

from workload import new_model

SHARD, TOLERANCE, MOST_DIFFERENT = 64, 1e-5, 0.02
# Model, clients a round, aim.
WORKLOADS: dict[str, tuple[dict[str, Any], int, float]] = {
    "mlp": ({"name": "simple_mlp", "args": {"input_dim": 784, "hidden": [128, 64], "output_dim": 10}}, 100, 2.2),
    "cnn": ({"name": "small_cnn", "args": {"height": 28, "width": 28, "output_dim": 10}}, 20, 1.25),
}


def main() -> int:
    """Measure both workloads, print the table and the figures, and say whether the claims hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="of each way (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn, about (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args()
    data = pictures()
    found = [measure(name, data, options) for name in WORKLOADS]
    show(found)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )
    report = {"machine": machine, "data": data.name, "workloads": found, "holds": all(one["holds"] for one in found)}
    print(json.dumps(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if report["holds"] else 1


def pictures() -> Dataset:
    """Return Fashion-MNIST, or digits blown up to its size."""
    try:
        return load_dataset("fashion-mnist")
    except DatasetMissing:
        digits = load_dataset("digits")
        squares = digits.x.reshape(-1, 1, 8, 8).repeat(4, axis=2).repeat(4, axis=3)[:, :, 2:30, 2:30]
        return Dataset(np.ascontiguousarray(squares), digits.y, "digits, resized")


def measure(name: str, data: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """Train rounds in each way, in turns; return the rates and what follows from them."""
    model, clients, aim = WORKLOADS[name]
    job = parse_job({"model": model, "training": {"lr": 0.1, "batch_size": 32}})
    base = draw_initial(job.schema_of_model(), seed=0)
    shards = [Shard(data, (np.arange(SHARD) + SHARD * i) % len(data)) for i in range(clients)]
    seeds, cores = range(clients), len(os.sched_getaffinity(0))
    vmap = Plan(TrainingPath.VMAP, stack_size(len(base)))
    with CohortEngine([data], processes=cores, plan=vmap) as vmapped, CohortEngine([data], processes=cores) as ours:
        ways: dict[str, Callable[[], object]] = {
            "bare, 1 thread": lambda: bare(name, job, base, shards, threads=1),
            f"bare, {cores} threads": lambda: bare(name, job, base, shards, threads=cores),
            f"vmap, {cores} processes": lambda: vmapped.train(base, shards, job, seeds),
            f"ours, {cores} processes": lambda: ours.train(base, shards, job, seeds),
        }
        wanted, deltas = bare(name, job, base, shards, threads=1), ours.train(base, shards, job, seeds).deltas
        rates = take_turns(ways, clients, options)
        chosen = str(ours.calibration)
    bare_rates = [one.wall for way, one in rates.items() if way.startswith("bare")]
    fastest = max(bare_rates) if name == "mlp" else rates[f"bare, {cores} threads"].wall
    ours_rate = rates[f"ours, {cores} processes"]
    away = np.abs(deltas - wanted).max(axis=1)
    beyond = float((away > TOLERANCE).mean())
    return {
        "workload": name,
        "clients_per_second": {way: one.wall for way, one in rates.items()},
        "clients_per_processor_second": {way: one.processor for way, one in rates.items()},
        "ratio": ours_rate.wall / fastest,
        "ratio_of_processor_time": ours_rate.processor / rates["bare, 1 thread"].processor,
        "aim": aim,
        "typical_difference": float(np.median(away)),
        "clients_that_differ": beyond,
        "chosen": chosen,
        "holds": ours_rate.wall / fastest >= aim and beyond <= MOST_DIFFERENT,
    }


@dataclass(frozen=True)
class Rate:
    """Clients a second: of the clock, and of processor time of all processes."""

    wall: float
    processor: float


def take_turns(ways: dict[str, Callable[[], object]], clients: int, options: argparse.Namespace) -> dict[str, Rate]:
    """Return the medians over all turns."""
    rates: dict[str, list[Rate]] = {way: [] for way in ways}
    for train_round in ways.values():
        train_round()
    for _ in range(options.turns):
        for way, train_round in ways.items():
            rounds, started, began = 0, time.perf_counter(), processor_seconds()
            while (spent := time.perf_counter() - started) < options.seconds:
                train_round()
                rounds += 1
            trained = rounds * clients
            rates[way].append(Rate(trained / spent, trained / (processor_seconds() - began)))
        print(".", end="", file=sys.stderr, flush=True)
    return {
        way: Rate(statistics.median(one.wall for one in found), statistics.median(one.processor for one in found))
        for way, found in rates.items()
    }


def processor_seconds() -> float:
    """Return the processor time that this process and those that it started have used."""
    times = [one.cpu_times() for one in psutil.Process().children()]
    return time.process_time() + sum(one.user + one.system for one in times)


def bare(name: str, job: JobSpec, base: Vector, shards: list[Shard], *, threads: int) -> np.ndarray[Any, Any]:
    """Train the clients as anybody would who has PyTorch and a loop; return the deltas."""
    torch.set_num_threads(threads)
    module, start = new_model(name), torch.from_numpy(base)
    inputs, classes = torch.from_numpy(shards[0].dataset.x), torch.from_numpy(shards[0].dataset.y)
    deltas = np.empty((len(shards), len(base)), dtype=np.float32)
    for client, shard in enumerate(shards):
        vector_to_parameters(start.clone(), module.parameters())
        optimizer = torch.optim.SGD(module.parameters(), lr=job.training.lr)
        order = torch.from_numpy(shard.rows)[torch.randperm(SHARD, generator=torch.Generator().manual_seed(client))]
        for begin in range(0, SHARD, job.training.batch_size):
            rows = order[begin : begin + job.training.batch_size]
            optimizer.zero_grad()
            F.cross_entropy(module(inputs[rows]), classes[rows]).backward()
            optimizer.step()
        deltas[client] = parameters_to_vector(module.parameters()).detach().numpy() - base
    return deltas


def show(found: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(title="virtual clients trained per second (per second of processor time)")
    for column in ("workload", *found[0]["clients_per_second"], "ours : bare", "aim", "typical difference"):
        table.add_column(column, justify="left" if column == "workload" else "right")
    for one in found:
        pairs = zip(one["clients_per_second"].values(), one["clients_per_processor_second"].values(), strict=True)
        rates = [f"{wall:,.0f} ({processor:,.0f})" for wall, processor in pairs]
        ratio = f"{one['ratio']:.2f} ({one['ratio_of_processor_time']:.2f})"
        table.add_row(one["workload"], *rates, ratio, f"{one['aim']:.2f}", f"{one['typical_difference']:.1e}")
    console = Console(width=160)
    console.print(table)
    for one in found:
        console.print(f"{one['workload']}: {one['chosen']}")


if __name__ == "__main__":
    raise SystemExit(main())
