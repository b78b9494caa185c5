"""What it costs to accept one update durably, beside what the disk alone costs; and the fold's memory.

Claim 1: accepting an update of 100 k parameters (read, decoded, checked, hashed into the blob store,
committed) takes at most 3 times writing and fsyncing the same bytes plus one full-synchronous SQLite
commit, measured turn by turn in the same run.
Claim 2: folding 10, 50 or 200 updates needs the same memory, a small multiple of the model.

    python benchmarks/accept.py [--updates 200] [--json FILE]
"""

import argparse
import hashlib
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from fed_compute.coordinator.folding import RoundFold
from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.ids import ClientId, Digest
from fed_compute.protocol.job import JobSpec, parse_job
from fed_compute.protocol.updates import encode_update
from fed_compute.rounds.records import Job

NUM_PARAMETERS = 100_010
MAX_RATIO = 3.0
MAX_MEMORY_GROWTH = 1.1


def main() -> int:
    """Run both measurements, print a table, and say whether the claims hold."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--updates", type=int, default=200, help="updates to accept (default 200)")
    arguments.add_argument("--json", type=Path, help="also write the result to this file")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # a real disk: /tmp may be memory
        result = measure(Path(folder), options.updates)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["accept"]["holds"] and result["memory"]["holds"] else 1


def measure(folder: Path, updates: int) -> dict:
    """Accept updates one by one, the bare disk work between them, and fold them all."""
    coordinator = open_coordinator(
        load_settings(data_dir=folder / "data", requests_per_minute=10**6, updates_per_minute=10**6)
    )
    try:
        job = coordinator.jobs.create(_job(updates))
        floor = DiskFloor(folder)
        accept_seconds, floor_seconds = [], []
        for index in range(updates):
            body = _body(job, index)
            floor_seconds.append(_timed(lambda body=body: floor.write_and_commit(body)))
            accept_seconds.append(_accept(coordinator, f"client-{index}", body))
        _fold_peak_bytes(coordinator, job, 1)  # the first fold also imports
        memory = {count: _fold_peak_bytes(coordinator, job, count) for count in (10, 50, 200) if count <= updates}
    finally:
        coordinator.close()
    accept, floor_median = statistics.median(accept_seconds), statistics.median(floor_seconds)
    growth = max(memory.values()) / min(memory.values())
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "parameters": NUM_PARAMETERS,
        "update_bytes": len(body),
        "accept": {
            "median_ms": accept * 1e3,
            "disk_floor_median_ms": floor_median * 1e3,
            "ratio": accept / floor_median,
            "limit": MAX_RATIO,
            "holds": accept / floor_median <= MAX_RATIO,
        },
        "memory": {
            "peak_bytes_by_updates": memory,
            "peak_in_models": max(memory.values()) / (4 * NUM_PARAMETERS),
            "growth": growth,
            "holds": growth <= MAX_MEMORY_GROWTH,
        },
    }


class DiskFloor:
    """The least that durable acceptance can cost: the bytes fsynced, and one full-synchronous commit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "floor"
        self._folder.mkdir()
        self._database = sqlite3.connect(folder / "floor.sqlite3", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE updates (digest TEXT)")

    def write_and_commit(self, body: bytes) -> None:
        """Write and fsync one file, and commit one row."""
        with (self._folder / os.urandom(8).hex()).open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("INSERT INTO updates VALUES (?)", (os.urandom(32).hex(),))
        self._database.execute("COMMIT")


def _job(updates: int) -> JobSpec:
    return parse_job(
        {
            "name": "accept",
            "model": {"name": "linear", "args": {"input_dim": 10_000, "output_dim": 10}},
            "rounds": {"target_updates": updates + 1, "min_updates": updates + 1, "deadline_seconds": 86_400},
        }
    )


def _body(job: Job, seed: int) -> bytes:
    schema, rng = schema_of(job), np.random.default_rng(seed)
    return encode_update(
        rng.standard_normal(schema.num_parameters).astype(np.float32),
        encoding="f32",
        compression="none",
        topk_fraction=1.0,
        schema_digest=schema.digest(),
        num_samples=100,
        loss=1.0,
        train_seconds=1.0,
        rng=rng,
    )


def _accept(coordinator: Coordinator, name: str, body: bytes) -> float:
    """Return the seconds from a body that has just arrived in a file to its durable acceptance."""
    client_id, key = coordinator.auth.register(name)
    assignment = coordinator.tasks.next_task(ClientId(client_id))
    admission = coordinator.pipeline.admit(key, assignment.task.task_id)
    path = coordinator.blobs.incoming(assignment.task.task_id)

    def accept() -> None:
        path.write_bytes(body)
        digest = Digest(hashlib.sha256(body).hexdigest())
        coordinator.pipeline.accept_file(admission, path, digest)

    return _timed(accept)


def _fold_peak_bytes(coordinator: Coordinator, job: Job, count: int) -> int:
    with coordinator.store.snapshot() as records:
        updates = list(records.updates.all())[:count]
    tracemalloc.start()
    fold = RoundFold(job, coordinator.blobs, base_version=1)
    fold.add(updates)
    fold.fold()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(result: dict) -> None:
    """Print the result as a table."""
    table = Table(title=f"Accepting an update of {result['parameters']:,} parameters ({result['machine']})")
    for column in ("measure", "value", "limit", "holds"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    accept, memory = result["accept"], result["memory"]
    table.add_row("accept durably, median", f"{accept['median_ms']:.2f} ms", "", "")
    table.add_row("fsync of the bytes + full commit, median", f"{accept['disk_floor_median_ms']:.2f} ms", "", "")
    table.add_row("ratio", f"{accept['ratio']:.2f}", f"≤ {accept['limit']}", "yes" if accept["holds"] else "NO")
    for count, peak in memory["peak_bytes_by_updates"].items():
        table.add_row(f"peak memory folding {count} updates", f"{peak / 1e6:.2f} MB", "", "")
    table.add_row(
        "growth from fewest to most",
        f"{memory['growth']:.3f}",
        f"≤ {MAX_MEMORY_GROWTH}",
        "yes" if memory["holds"] else "NO",
    )
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
