"""Are cohorts trained on CUDA what the client's trainer gives on the CPU, and how many clients a second is that?

Needs this repository, torch 2.x with CUDA, numpy, pydantic, structlog and zstandard; nothing has to be installed of
the product itself. Samples are made up: Fashion-MNIST's shape, ten separable classes. Exits with 1 unless every delta
is within 1e-5 of the largest value of its model, and the same call gives the same bytes twice. Adam divides by the size
of gradients that may all but vanish, so there the whole delta has to be within 1e-3 of its own length.
`--device cpu` runs the same on a machine without CUDA, in few sizes.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import torch

from fed_compute.client.datasets import Dataset
from fed_compute.client.trainer import train
from fed_compute.protocol.job import JobSpec, parse_job
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import Vector, draw_initial
from fed_compute.simulator.cohort import CohortEngine, Plan, Shard

SHARD, ROWS = 64, 60_000
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"name": "simple_mlp", "args": {"input_dim": 784, "hidden": [128, 64], "output_dim": 10}},
    "linear": {"name": "linear", "args": {"input_dim": 784, "output_dim": 10}},
    "cnn": {"name": "small_cnn", "args": {"height": 28, "width": 28, "output_dim": 10}},
    "transformer": {"name": "tiny_transformer", "args": {"sequence_length": 28, "token_dim": 28, "output_dim": 10}},
}
PLAIN = {"lr": 0.1, "batch_size": 32}
RICH = {"lr": 0.05, "batch_size": 24, "momentum": 0.9, "weight_decay": 1e-3, "proximal_mu": 0.1, "max_grad_norm": 1.0}
# Model, training, path; None lets the engine choose.
CASES: list[tuple[str, dict[str, Any], str | None]] = [
    ("mlp", PLAIN, None),
    ("mlp", RICH | {"local_epochs": 2}, "stacked:16"),
    ("mlp", PLAIN | {"optimizer": "adam", "lr": 1e-3}, "stacked:16"),
    ("mlp", PLAIN, "vmap:16"),
    ("linear", RICH, "stacked:16"),
    ("cnn", PLAIN, None),
    ("cnn", RICH, "stacked:16"),
    ("cnn", PLAIN, "vmap:16"),
    ("cnn", PLAIN, "looped"),
    ("transformer", PLAIN, None),
]
TOLERANCE, ADAM_TOLERANCE = 1e-5, 1e-3


def main() -> int:
    """Compare, measure, print both, and say whether the comparison holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--sizes", type=int, nargs="+", default=None, help="cohort sizes (default 10 to 10,000)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each size and model (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args()
    sizes = options.sizes or ([10, 100, 1_000, 10_000] if options.device == "cuda" else [10, 100])
    torch.set_num_threads(1)
    data = samples()
    compared = [compare(data, *case, device=options.device) for case in CASES]
    speeds = [speed(data, name, sizes, options.device, options.seconds) for name in ("mlp", "cnn")]
    holds = all(one["holds"] for one in compared)
    report = {
        "machine": torch.cuda.get_device_name() if options.device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "compared": compared,
        "clients_per_second": speeds,
        "holds": holds,
    }
    print(json.dumps(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print("holds" if holds else "FAILS", f"on {report['machine']}, torch {torch.__version__}")
    return 0 if holds else 1


def samples() -> Dataset:
    """Return 60,000 made-up pictures of ten classes."""
    stream = np.random.Generator(np.random.PCG64(0))
    y = stream.integers(0, 10, ROWS)
    centres = stream.random((10, 784), dtype=np.float32)
    x = 0.7 * centres[y] + 0.3 * stream.random((ROWS, 784), dtype=np.float32)
    return Dataset(x.reshape(ROWS, 1, 28, 28), y.astype(np.int64), "made up")


def compare(data: Dataset, model: str, training: dict[str, Any], plan: str | None, *, device: str) -> dict[str, Any]:
    """Train 12 clients of uneven size on the device, and by the client's trainer on the CPU."""
    job, base = job_of(model, training)
    sizes = np.random.Generator(np.random.PCG64(1)).integers(1, 100, 12)
    shards = [Shard(data, np.arange(100 * client, 100 * client + size)) for client, size in enumerate(sizes)]
    seeds = list(range(len(shards)))
    with CohortEngine([data], device=device, processes=1, plan=Plan.parse(plan) if plan else None) as engine:
        first = engine.train(base, shards, job, seeds)
        again = engine.train(base, shards, job, seeds)
        chosen = str(engine.calibration)
    recipe = Recipe.of(job, job.schema_of_model(), seed=0)
    wanted = [
        train(recipe.model_copy(update={"seed": seed}), base, shard.samples())
        for seed, shard in zip(seeds, shards, strict=True)
    ]
    scale = max(1.0, float(np.abs(base).max()))
    away = max(float(np.abs(found - one.delta).max()) for found, one in zip(first.deltas, wanted, strict=True)) / scale
    length = max(distance(found, one.delta) for found, one in zip(first.deltas, wanted, strict=True))
    losses = max(abs(float(found) - one.loss) for found, one in zip(first.losses, wanted, strict=True))
    same = first.deltas.tobytes() == again.deltas.tobytes()
    is_near = length <= ADAM_TOLERANCE if job.training.optimizer != "sgd" else away <= TOLERANCE
    holds = is_near and losses <= 10 * TOLERANCE and same
    repeated = "same bytes twice" if same else "OTHER BYTES the second time"
    word = "ok  " if holds else "FAIL"
    print(f"{word} {model:12} deltas {away:.1e} ({length:.1e} of their length), losses {losses:.1e}")
    print(f"                  {repeated}; {training} {chosen}", flush=True)
    figures = {"away": away, "away_of_length": length, "losses": losses, "same_bytes": same, "holds": holds}
    return {"model": model, "training": training, "plan": chosen, **figures}


def distance(found: Vector, wanted: Vector) -> float:
    """Return how far two deltas are apart, in proportion to the wanted one's length."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def speed(data: Dataset, model: str, sizes: Sequence[int], device: str, seconds: float) -> dict[str, Any]:
    """Measure clients a second by cohort size: 64 samples, batch 32, one epoch, plain SGD, deltas in host memory."""
    job, base = job_of(model, PLAIN)
    rates: dict[int, float] = {}
    with CohortEngine([data], device=device, processes=1) as engine:
        for count in sizes:
            shards = [Shard(data, (np.arange(SHARD) + SHARD * client) % ROWS) for client in range(count)]
            engine.train(base, shards, job, range(count))
            rounds, started = 0, time.perf_counter()
            while rounds == 0 or time.perf_counter() - started < seconds:
                engine.train(base, shards, job, range(count))
                rounds += 1
            rates[count] = rounds * count / (time.perf_counter() - started)
            print(f"{model:12} {count:6} clients in a round: {rates[count]:10,.0f} clients/s", flush=True)
        print(f"{model:12} {engine.calibration}")
    return {"model": model, "rates": rates}


def job_of(model: str, training: dict[str, Any]) -> tuple[JobSpec, Vector]:
    """Return a job and its first parameters."""
    job = parse_job({"model": MODELS[model], "training": training})
    return job, draw_initial(job.schema_of_model(), seed=0)


if __name__ == "__main__":
    raise SystemExit(main())
