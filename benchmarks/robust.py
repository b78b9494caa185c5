"""What robust aggregation costs: 100 updates of a million parameters, on one core.

Claim 1: NNM and trimmed mean take at most 1.5 s of one core.
Claim 2: and at most 256 MB above the updates themselves, which lie in a file.
Beside it: every rule, with equal and with unequal weights; the same arithmetic without exact sums, so that the price
of versions that can be rebuilt byte for byte on any machine is seen; and one pass over the updates, the least of all.

    python benchmarks/robust.py [--updates 100] [--parameters 1000000] [--json FILE]
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is imported

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from fed_compute.learning.aggregation import FileMatrix, RobustRule, UpdateMatrix, new_rule  # noqa: E402
from fed_compute.learning.aggregation.matrix import column_blocks  # noqa: E402

MAX_SECONDS = 1.5
MAX_MEGABYTES = 256.0
CLAIMED = "nnm + trimmed mean"
RULES: dict[str, dict[str, Any]] = {
    CLAIMED: {"name": "trimmed_mean", "pre": ["nnm"]},
    "robust": {"name": "robust"},
    "fedavg": {"name": "fedavg"},
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
    return 0 if result["holds"] else 1


def measure(folder: Path, updates: int, parameters: int, *, repeats: int) -> dict[str, Any]:
    """Fill a file with updates and let each rule combine them."""
    rng, matrix = np.random.default_rng(0), FileMatrix(folder, num_parameters=parameters)
    common = rng.standard_normal(parameters, dtype=np.float32)
    for _ in range(updates):
        matrix.append(common + rng.standard_normal(parameters, dtype=np.float32))
    liars, unequal = updates // 5, rng.integers(1, 1_000, size=updates).astype(np.float64)
    rows = {}
    for name, numbers in RULES.items():
        rule = new_rule(f=liars, **numbers)
        equal = best(lambda rule=rule: combine(rule, matrix, np.ones(updates)), repeats)
        weighted = best(lambda rule=rule: combine(rule, matrix, unequal), 1)
        peak = peak_bytes(lambda rule=rule: combine(rule, matrix, np.ones(updates)))
        rows[name] = {
            "seconds": equal[0],
            "wall_seconds": equal[1],
            "weighted_seconds": weighted[0],
            "peak_megabytes": peak / 1e6,
        }
    inexact = best(lambda: without_exact_sums(matrix, liars), repeats)[0]
    one_pass = best(lambda: read_once(matrix), repeats)[0]
    found = rows[CLAIMED]
    return {
        "machine": f"{platform.machine()}, one of {os.cpu_count()} cores, Python {platform.python_version()}",
        "updates": updates,
        "parameters": parameters,
        "liars": liars,
        "rules": rows,
        "inexact_seconds": inexact,
        "one_pass_seconds": one_pass,
        "price_of_exactness": found["seconds"] / inexact,
        "holds": found["seconds"] <= MAX_SECONDS and found["peak_megabytes"] <= MAX_MEGABYTES,
    }


def combine(rule: RobustRule, matrix: UpdateMatrix, weights: npt.NDArray[np.float64]) -> object:
    """Run one rule as the coordinator does."""
    return rule.aggregate(matrix, weights, root=0)


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
    """Print the result as a table."""
    size = f"{result['updates']} updates × {result['parameters']:,} parameters, {result['liars']} liars"
    table = Table(title=f"Robust aggregation: {size}\n({result['machine']}; seconds of processor)")
    for column in ("rule", "seconds", "unequal weights", "MB above", "holds"):
        table.add_column(column, justify="left" if column == "rule" else "right")
    for name, row in result["rules"].items():
        numbers = [f"{row[key]:.2f}" for key in ("seconds", "weighted_seconds")]
        holds = ("yes" if result["holds"] else "NO") if name == CLAIMED else ""
        table.add_row(name, *numbers, f"{row['peak_megabytes']:.0f}", holds)
    table.add_section()
    table.add_row(f"{CLAIMED}, not exact", f"{result['inexact_seconds']:.2f}", "", "", "")
    table.add_row("one pass over the updates", f"{result['one_pass_seconds']:.2f}", "", "", "")
    table.caption = (
        f"Limit: {CLAIMED} in {MAX_SECONDS} s and {MAX_MEGABYTES:.0f} MB. "
        f"Exact sums cost {result['price_of_exactness']:.2f} times the same without."
    )
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
