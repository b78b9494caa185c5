"""Many histories and all crash points, on every core."""

import multiprocessing
import os
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


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for simulated disks, in memory where the system has such a place."""
    with TemporaryDirectory(prefix="fed-compute-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as name:
        yield Path(name)


def history(seed: int, *, num_operations: int) -> History:
    """Live through one history, in this process."""
    with scratch_folder() as folder:
        (folder / "life").mkdir()
        return run_history(folder / "life", seed, num_operations=num_operations)


def histories(seeds: Sequence[int], *, num_operations: int) -> Iterator[History]:
    """Yield the history of each seed, in order; one process for each core works on them."""
    return _in_processes(partial(history, num_operations=num_operations), seeds)


def crash_points(story: Story) -> Iterator[tuple[CrashPoint, list[str]]]:
    """Yield every crash point of a story and what was wrong in the end; one process for each core works on them."""
    points = story.crash_points()
    return zip(points, _in_processes(story.breaches_at, points), strict=True)


def _in_processes(act: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> Iterator[ResultT]:
    # Spawned, not forked: the caller may have threads.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(act, items, chunksize=CHUNK if len(items) > CHUNK * 8 else 1)
