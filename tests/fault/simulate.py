"""Run the simulated campaign from the command line: `make fault`, or one seed that failed.

python -m tests.fault.simulate                                       every crash point and 1 000 histories
python -m tests.fault.simulate histories --seeds 17 --operations 500
python -m tests.fault.simulate crashes
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from tests.fault.simulated.story import CrashPoint, Story
from tests.fault.simulated.world import History, run_history

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MEMORY = Path("/dev/shm")
"""Where SQLite's syncs cost nothing; another folder does as well."""
CHUNK = 4
SHOWN_BREACHES = 5


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for simulated disks, in memory where the system has such a place."""
    with TemporaryDirectory(prefix="fed-compute-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as name:
        yield Path(name)


def histories(seeds: Sequence[int], *, num_operations: int) -> Iterator[History]:
    """Yield the history of each seed, in order; several processes work on them."""
    return _in_processes(partial(_history, num_operations=num_operations), seeds)


def crash_points(story: Story) -> Iterator[tuple[CrashPoint, list[str]]]:
    """Yield every crash point of a story and what was wrong in the end; several processes work on them."""
    points = story.crash_points()
    return zip(points, _in_processes(story.breaches_at, points), strict=True)


def _history(seed: int, *, num_operations: int) -> History:
    with scratch_folder() as folder:
        (folder / "life").mkdir()
        return run_history(folder / "life", seed, num_operations=num_operations)


def _in_processes(act: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> Iterator[ResultT]:
    # Spawned, not forked: the caller may have threads.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(act, items, chunksize=CHUNK if len(items) > CHUNK * 8 else 1)


# --- the command line -----------------------------------------------------------------------------


def main() -> int:
    """Run what the command line asks for; return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["all", "histories", "crashes"], default="all")
    parser.add_argument("--seeds", default="0-999", help="one seed, or the first and the last")
    parser.add_argument("--operations", type=int, default=500, help="length of each history")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    failures = 0
    if arguments.what in ("all", "crashes"):
        failures += _run_crash_points()
    if arguments.what in ("all", "histories"):
        failures += _run_histories(range(int(first), int(last or first) + 1), arguments.operations)
    return 1 if failures else 0


def _run_crash_points() -> int:
    began, failures = time.monotonic(), 0
    with scratch_folder() as folder:
        story = Story(folder)
        _say(f"{sum(map(len, story.traces))} persistence calls in {len(story.traces)} parts, each with every fault")
        for number, (point, found) in enumerate(crash_points(story), start=1):
            failures += bool(found)
            _tell(f"{point.fault} at {story.traces[point.part][point.call - 1]!r}, {point}", found)
    _conclude("crash points", number, failures, time.monotonic() - began)
    return failures


def _run_histories(seeds: Sequence[int], num_operations: int) -> int:
    began, sums = time.monotonic(), Counter[str]()
    for history in histories(seeds, num_operations=num_operations):
        sums.update(history.counts())
        sums["failures"] += bool(history.breaches)
        _tell(f"seed {history.seed}, {num_operations} operations", history.breaches)
        if len(seeds) == 1:
            _say(str(history))
    failures = sums.pop("failures", 0)
    _say(", ".join(f"{number} {name}" for name, number in sums.items()))
    _conclude("histories", len(seeds), failures, time.monotonic() - began)
    return failures


def _tell(what: str, breaches: Sequence[str]) -> None:
    for breach in breaches[:SHOWN_BREACHES]:
        _say(f"FAILED {what}: {breach}")


def _conclude(what: str, trials: int, failures: int, seconds: float) -> None:
    _say(f"{trials} {what} in {seconds:.0f} s, {failures} failed")
    if not failures:
        _say(f"with none of {trials} failed, fewer than {3 / trials:.2%} fail (3/n, 95 % confidence)")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
