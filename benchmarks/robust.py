"""What robust aggregation costs: 100 updates of a million parameters, on one core.

Claim 1: NNM and trimmed mean take at most 1.5 s of one core.
Claim 2: and at most 256 MB above the updates themselves, which lie in a file.
Beside it: every rule, with equal and with unequal weights; the rule `robust` as a coordinator closes a round with it;
the same arithmetic without exact sums, which shows the price of versions that any machine rebuilds byte for byte;
one pass over the updates, the least of all; and a tenth of the work by ByzFL, where that is installed
(`pip install --no-deps byzfl`): for the whole it would want 32 GB.

    python benchmarks/robust.py [--updates 100] [--parameters 1000000] [--json FILE]

Seconds are those of the processor, user and system together, the least of a few runs; the exit status is 1 if a claim
fails. Memory is what Python and NumPy allocate above the updates, which lie in a file.
"""

import argparse
import importlib.util
import json
import os
import platform
import sys
import tempfile
import time
import tracemalloc
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is imported

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from fed_compute.learning.aggregation import (  # noqa: E402
    FileMatrix,
    RobustFold,
    RobustRule,
    RoundContext,
    UpdateMatrix,
    new_rule,
)
from fed_compute.learning.aggregation.matrix import column_blocks  # noqa: E402

MAX_SECONDS = 1.5
MAX_MEGABYTES = 256.0
CLAIMED = "nnm + trimmed mean"
INEXACT = f"{CLAIMED}, not exact"
RULES: dict[str, dict[str, Any]] = {
    CLAIMED: {"name": "trimmed_mean", "pre": ["nnm"]},
    "robust": {"name": "robust"},
    "fedavg": {"name": "fedavg"},
    "fednova": {"name": "fednova"},
    "norm_clipping": {"name": "norm_clipping"},
    "median": {"name": "median"},
    "trimmed_mean": {"name": "trimmed_mean"},
    "krum": {"name": "krum"},
    "multi_krum": {"name": "multi_krum"},
    "geometric_median": {"name": "geometric_median"},
    "centered_clipping": {"name": "centered_clipping"},
    "fltrust": {"name": "fltrust"},
    "bucketing + median": {"name": "median", "pre": ["bucketing"]},
}


def main() -> int:
    """Run the measurements, print a table, and say whether the claims hold."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--updates", type=int, default=100, help="updates in the round (default 100)")
    arguments.add_argument("--parameters", type=int, default=1_000_000, help="parameters (default 1000000)")
    arguments.add_argument("--repeats", type=int, default=3, help="runs of each, of which the best counts (default 3)")
    arguments.add_argument("--json", type=Path, help="also write the result to this file")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # a real disk: /tmp may be memory
        result = measure(Path(folder), options.updates, options.parameters, repeats=options.repeats)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(claim["holds"] for claim in result["claims"]) else 1


def measure(folder: Path, updates: int, parameters: int, *, repeats: int) -> dict[str, Any]:
    """Fill a file with updates and let each rule combine them."""
    rng, matrix = np.random.default_rng(0), FileMatrix(folder, num_parameters=parameters)
    fold = RobustFold(new_rule("robust"), parameters, folder=folder)
    common = rng.standard_normal(parameters, dtype=np.float32)
    for _ in range(updates):
        update = common + rng.standard_normal(parameters, dtype=np.float32)
        matrix.append(update)
        fold.add(update, weight=1.0)
    liars, unequal = updates // 5, rng.integers(1, 1_000, size=updates).astype(np.float64)
    rules = {name: new_rule(f=liars, **numbers) for name, numbers in RULES.items()}
    rows = {name: measure_rule(rule, matrix, unequal, repeats=repeats) for name, rule in rules.items()}
    beside: dict[str, Callable[[], object]] = {
        "robust, closing a round": lambda: fold.combine(RoundContext()),
        INEXACT: lambda: without_exact_sums(matrix, liars),
        "one pass over the updates": lambda: read_once(matrix),
    }
    if byzfl := with_byzfl(matrix, liars, num_parameters=parameters // 10):
        beside[f"ByzFL, {parameters // 10:,} parameters"] = byzfl
    seconds = {name: best(work, repeats)[0] for name, work in beside.items()}
    found = rows[CLAIMED]
    return {
        "machine": f"{platform.machine()}, one of {os.cpu_count()} cores, Python {platform.python_version()}",
        "updates": updates,
        "parameters": parameters,
        "liars": liars,
        "rules": rows,
        "beside_seconds": seconds,
        "price_of_exactness": found["seconds"] / seconds[INEXACT],
        "claims": [
            claim(f"{CLAIMED} takes at most", MAX_SECONDS, "s of one core", found["seconds"]),
            claim(f"{CLAIMED} takes at most", MAX_MEGABYTES, "MB above the updates", found["peak_megabytes"]),
        ],
    }


def measure_rule(
    rule: RobustRule, matrix: UpdateMatrix, unequal: npt.NDArray[np.float64], *, repeats: int
) -> dict[str, float]:
    """Return what one rule takes, with equal weights and with unequal ones."""
    equal = np.ones(len(unequal))
    seconds, wall_seconds = best(lambda: combine(rule, matrix, equal), repeats)
    return {
        "seconds": seconds,
        "wall_seconds": wall_seconds,
        "weighted_seconds": best(lambda: combine(rule, matrix, unequal), repeats)[0],
        "peak_megabytes": peak_bytes(lambda: combine(rule, matrix, equal)) / 1e6,
    }


def claim(text: str, limit: float, unit: str, found: float) -> dict[str, Any]:
    """Compare what was found with its limit."""
    return {"claim": f"{text} {limit:g} {unit}", "found": round(found, 2), "holds": found <= limit}


def combine(rule: RobustRule, matrix: UpdateMatrix, weights: npt.NDArray[np.float64]) -> object:
    """Run one rule as the coordinator does."""
    return rule.aggregate(matrix, weights, RoundContext(root=0))


def without_exact_sums(matrix: UpdateMatrix, liars: int) -> None:
    """NNM and trimmed mean with BLAS in float32 as it comes: other bits on another machine."""
    n = matrix.num_updates
    gram = np.zeros((n, n))
    for part in column_blocks(matrix.num_parameters):
        block = matrix.block(part)
        gram += block @ block.T
    squares = np.diagonal(gram)
    nearest = np.argsort(squares[:, None] + squares - 2 * gram, axis=1)[:, : n - liars]
    mixing = np.zeros((n, n), dtype=np.float32)
    np.put_along_axis(mixing, nearest, np.float32(1 / (n - liars)), axis=1)
    for part in column_blocks(matrix.num_parameters):
        mixed = matrix.block(part).T @ mixing.T
        mixed.sort(axis=1)
        mixed[:, liars : n - liars].mean(axis=1)


def with_byzfl(matrix: UpdateMatrix, liars: int, *, num_parameters: int) -> Callable[[], object] | None:
    """Return the same work done by ByzFL on a part of the updates, in memory; None where it is not installed."""
    spec = importlib.util.find_spec("byzfl")
    if spec is None or spec.origin is None:
        return None
    package = types.ModuleType("byzfl")  # its top level imports torchvision, which the rules do not need
    package.__path__ = [str(Path(spec.origin).parent)]
    sys.modules["byzfl"] = package
    rules = importlib.import_module("byzfl.aggregators")
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    updates = torch.from_numpy(np.array(matrix.block(slice(0, num_parameters))))
    return lambda: rules.TrMean(liars)(rules.NNM(liars)(updates))


def read_once(matrix: UpdateMatrix) -> None:
    """Add all updates up, which no rule can do without."""
    for part in column_blocks(matrix.num_parameters):
        matrix.block(part).sum(axis=0)


def best(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the least seconds of processor and of wall over some runs."""
    seconds = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        seconds.append((time.process_time() - cpu, time.perf_counter() - wall))
    return min(cpu for cpu, _ in seconds), min(wall for _, wall in seconds)


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most memory that was allocated at once. The file's pages are not among it."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def show(result: dict[str, Any]) -> None:
    """Print the result as a table, and whether the claims hold."""
    console = Console(file=sys.stdout, highlight=False)
    size = f"{result['updates']} updates × {result['parameters']:,} parameters, {result['liars']} liars"
    table = Table(title=f"Robust aggregation: {size}\n({result['machine']}; seconds of processor)")
    for column in ("rule", "seconds", "unequal weights", "MB above"):
        table.add_column(column, justify="left" if column == "rule" else "right")
    for name, row in result["rules"].items():
        table.add_row(name, f"{row['seconds']:.2f}", f"{row['weighted_seconds']:.2f}", f"{row['peak_megabytes']:.0f}")
    table.add_section()
    for name, seconds in result["beside_seconds"].items():
        table.add_row(name, f"{seconds:.2f}")
    table.caption = f"Exact sums cost {result['price_of_exactness']:.2f} times the same without."
    console.print(table)
    for found in result["claims"]:
        console.print(f"{'holds' if found['holds'] else 'FAILS'}: {found['claim']}; found {found['found']}")


if __name__ == "__main__":
    raise SystemExit(main())
