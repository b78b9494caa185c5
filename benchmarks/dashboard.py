"""What a page of the dashboard costs when much is on record: seconds, bytes, and statements to the database.

A SQLite store is filled through the repositories with 10,000 clients and a job of 1,000 rounds of 10 updates, every
one measured by 2 clients; then a real server is asked for each page over HTTP, turn by turn.

Claim: the overview takes less than 200 ms and 300 KB, whatever is on record.

    python benchmarks/dashboard.py [--clients 10000] [--rounds 1000] [--updates 10] [--turns 15] [--json FILE]
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import structlog
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, event

from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.ids import ClientId, RoundId, TaskId, UpdateId
from fed_compute.protocol.job import parse_job
from fed_compute.rounds.records import (
    Client,
    Evaluation,
    Job,
    Round,
    RoundMode,
    RoundState,
    Task,
    TaskKind,
    TaskState,
    Update,
    UpdateState,
    Version,
)
from fed_compute.server import news
from fed_compute.server.serve import serve_in_background
from fed_compute.storage.sql.store import Records

MAX_SECONDS = 0.2
MAX_BYTES = 300_000
ROUND_SECONDS = 60.0
MEASURED_BY = 2
CLIENTS_AT_ONCE = 2_000
PAGES = {
    "overview": "/",
    "jobs": "/ui/jobs",
    "job": "/ui/jobs/long",
    "charts of a job": "/ui/data/jobs/long",
    "round": "/ui/rounds/{round_id}",
    "clients": "/ui/clients",
    "client": "/ui/clients/client-00001",
    "leaderboard": "/ui/leaderboard",
    "events": "/ui/events",
    "events of a kind that is rare": "/ui/events?kind=job_created",
    "events of a client": "/ui/events?client=client-00001",
    "health": "/ui/health",
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is on record."""

    clients: int
    rounds: int
    updates: int


def main() -> int:
    """Fill a store, measure every page, print a table, and say whether the claim holds."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--clients", type=int, default=10_000, help="registered clients (default 10000)")
    arguments.add_argument("--rounds", type=int, default=1_000, help="closed rounds of the job (default 1000)")
    arguments.add_argument("--updates", type=int, default=10, help="updates in each round (default 10)")
    arguments.add_argument("--turns", type=int, default=15, help="times that each page is asked for (default 15)")
    arguments.add_argument("--json", type=Path, help="also write the result to this file")
    options = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # a real disk: /tmp may be memory
        size = Size(options.clients, options.rounds, options.updates)
        core = open_coordinator(load_settings(data_dir=Path(folder) / "data", port=0, log_level="error"))
        try:
            result = measure(core, fill(core, size), size, turns=options.turns)
        finally:
            core.close()
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["holds"] else 1


def fill(core: Coordinator, size: Size) -> RoundId:
    """Put clients, a long job and its journal on record, let every reader catch up, and return the newest round's id.

    Bodies of updates are not there: nothing that is shown reads them.
    """
    job = core.jobs.create(
        parse_job(
            {
                "name": "long",
                "description": "A job with a long past.",
                "model": {"name": "linear", "args": {"input_dim": 20, "output_dim": 10}},
                "rounds": {"total": size.rounds + 1, "target_updates": size.updates, "min_updates": 1},
            }
        )
    )
    began = core.clock.now() - ROUND_SECONDS * (size.rounds + 1)
    for start in range(0, size.clients, CLIENTS_AT_ONCE):
        with core.store.transaction() as records:
            for number in range(start, min(start + CLIENTS_AT_ONCE, size.clients)):
                name, seen = client_name(number), core.clock.now() - number % 90
                records.clients.add(Client(name, "{}", registered_at=began, last_seen_at=seen))
                records.journal.append("client_registered", at=began, client_id=name, state="active")
    with core.store.transaction() as records:
        live, first = records.rounds.live(job.job_id), records.versions.latest(job.job_id)
        records.rounds.put(replace(live, state=RoundState.ABANDONED, closed_at=began))
        newest = live.round_id
    for number in range(1, size.rounds + 1):
        with core.store.transaction() as records:
            newest = _add_round(records, job, first, number, size, at=began + number * ROUND_SECONDS)
    with core.store.transaction() as records:
        records.rounds.add(_round(job, size.rounds + 1, size, at=core.clock.now(), state=RoundState.OPEN))
        records.journal.move_cursor("contribution", records.journal.last_seq(), {})
    while core.worker.run_once():
        pass
    return newest


def client_name(number: int) -> ClientId:
    """Return the name of a client."""
    return ClientId(f"client-{number:05d}")


def _round(job: Job, number: int, size: Size, *, at: float, state: RoundState) -> Round:
    is_over = state is RoundState.CLOSED
    return Round(
        round_id=RoundId(0),
        job_id=job.job_id,
        number=number,
        base_version=number,
        state=state,
        mode=RoundMode.SYNC,
        target_updates=size.updates,
        min_updates=1,
        slots=size.updates,
        deadline_seconds=ROUND_SECONDS,
        opened_at=at,
        started_at=at if is_over else None,
        deadline=at + ROUND_SECONDS if is_over else None,
        closed_at=at + ROUND_SECONDS / 2 if is_over else None,
        result_version=number + 1 if is_over else None,
    )


def _add_round(records: Records, job: Job, first: Version, number: int, size: Size, *, at: float) -> RoundId:
    round_ = records.rounds.add(_round(job, number, size, at=at, state=RoundState.CLOSED))
    about = {"job_id": job.job_id, "round_id": round_.round_id}
    records.journal.append("round_opened", at=at, **about, number=number, base_version=number, mode=RoundMode.SYNC)
    records.journal.append("round_started", at=at, **about, deadline=round_.deadline)
    manifest = []
    for place in range(size.updates):
        update = _add_update(records, round_, place, size, at=at + place)
        manifest.append([update.update_id, update.digest, float(update.num_samples)])
    for place in range(MEASURED_BY):
        _add_evaluation(records, round_, client_name((number + place) % size.clients), 1 - 0.9 / number)
    text = json.dumps(manifest)
    records.versions.add(
        replace(first, version=number + 1, parent=number, round_id=round_.round_id, manifest=text, created_at=at)
    )
    told = {"version": number + 1, "digest": first.digest, "num_updates": size.updates, "num_samples": 0}
    records.journal.append("version_published", at=at + ROUND_SECONDS / 2, **about, **told)
    records.journal.append("round_closed", at=at + ROUND_SECONDS / 2, **about, version=number + 1)
    return round_.round_id


def _add_update(records: Records, round_: Round, place: int, size: Size, *, at: float) -> Update:
    owner, task_id = client_name((round_.number * size.updates + place) % size.clients), f"t_{round_.round_id}_{place}"
    task = _task(round_, task_id, owner, TaskKind.TRAIN, at=at)
    records.tasks.add(task)
    update = Update(
        update_id=UpdateId(0),
        task_id=task.task_id,
        job_id=round_.job_id,
        round_id=round_.round_id,
        client_id=owner,
        base_version=round_.base_version,
        state=UpdateState.ACCEPTED,
        digest=f"{round_.round_id:032x}{place:032x}",
        size_bytes=1_000,
        encoding="f32",
        compression="none",
        num_samples=50 + place,
        l2_norm=1.0 + place,
        loss=2.0 / round_.number,
        received_at=at + 10,
    )
    update = replace(update, update_id=records.updates.add(update))
    about = {"job_id": round_.job_id, "round_id": round_.round_id, "client_id": owner, "task_id": task.task_id}
    records.journal.append("task_assigned", at=at, **about, task=TaskKind.TRAIN, version=round_.base_version)
    records.journal.append(
        "update_accepted",
        at=at + 10,
        **about,
        update_id=update.update_id,
        num_samples=update.num_samples,
        size_bytes=update.size_bytes,
        l2_norm=update.l2_norm,
        loss=update.loss,
        latency_seconds=10.0,
        staleness=0,
    )
    return update


def _add_evaluation(records: Records, round_: Round, owner: ClientId, accuracy: float) -> None:
    task = _task(round_, f"e_{round_.round_id}_{owner}", owner, TaskKind.EVALUATE, at=round_.opened_at)
    records.tasks.add(task)
    found = Evaluation(
        task_id=task.task_id,
        job_id=round_.job_id,
        version=round_.base_version,
        round_id=round_.round_id,
        client_id=owner,
        num_samples=100,
        loss=2.0 / round_.number,
        accuracy=accuracy,
        recorded_at=round_.opened_at,
    )
    records.evaluations.add_all([found])


def _task(round_: Round, task_id: str, owner: ClientId, kind: TaskKind, *, at: float) -> Task:
    return Task(
        task_id=TaskId(task_id),
        job_id=round_.job_id,
        round_id=round_.round_id,
        client_id=owner,
        kind=kind,
        state=TaskState.REPORTED,
        base_version=round_.base_version,
        leased_at=at,
        deadline=at + ROUND_SECONDS,
        heartbeats=True,
        progress=1.0,
        ended_at=at + 10,
    )


class Statements:
    """Counts what is sent to the database for answers: not by the duties, and not by the reader of news."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count from zero while the block runs."""
        self.count = 0
        event.listen(Engine, "before_cursor_execute", self._note)
        try:
            yield
        finally:
            event.remove(Engine, "before_cursor_execute", self._note)

    def _note(self, *_: object) -> None:
        self.count += threading.current_thread().name.startswith("AnyIO worker") and not _is_reading_news()


def _is_reading_news() -> bool:
    frame = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != news.__name__:
        frame = frame.f_back
    return frame is not None


def measure(core: Coordinator, newest: RoundId, size: Size, *, turns: int) -> dict:
    """Ask a real server for each page, turn by turn."""
    addresses = {name: path.format(round_id=newest) for name, path in PAGES.items()}
    seconds: dict[str, list[float]] = {name: [] for name in addresses}
    told: dict[str, dict] = {}
    statements = Statements()
    with (
        serve_in_background(core) as url,
        httpx2.Client(base_url=url, headers={"Accept": "text/html", "Accept-Encoding": "identity"}) as http,
    ):
        for turn in range(turns + 1):  # the first one fills caches, and is not counted
            for name, address in addresses.items():
                with statements.counted():
                    began = time.perf_counter()
                    answer = http.get(address)
                    took = time.perf_counter() - began
                answer.raise_for_status()
                told[name] = {"bytes": len(answer.content), "statements": statements.count}
                if turn:
                    seconds[name].append(took)
    pages = {
        name: {
            "median_ms": statistics.median(found) * 1e3,
            "slowest_ms": max(found) * 1e3,
            **told[name],
        }
        for name, found in seconds.items()
    }
    overview = pages["overview"]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "clients": size.clients,
        "rounds": size.rounds,
        "updates": size.rounds * size.updates,
        "pages": pages,
        "limits": {"median_ms": MAX_SECONDS * 1e3, "bytes": MAX_BYTES},
        "holds": overview["median_ms"] < MAX_SECONDS * 1e3 and overview["bytes"] < MAX_BYTES,
    }


def show(result: dict) -> None:
    """Print the result as a table."""
    table = Table(
        title=f"Pages with {result['clients']:,} clients, {result['rounds']:,} rounds, {result['updates']:,} updates "
        f"({result['machine']})"
    )
    for column in ("page", "median", "slowest", "size", "statements"):
        table.add_column(column, justify="left" if column == "page" else "right")
    for name, page in result["pages"].items():
        table.add_row(
            name,
            f"{page['median_ms']:.1f} ms",
            f"{page['slowest_ms']:.1f} ms",
            f"{page['bytes'] / 1e3:.1f} KB",
            str(page["statements"]),
        )
    console = Console(file=sys.stdout)
    console.print(table)
    limits = result["limits"]
    console.print(
        f"overview < {limits['median_ms']:.0f} ms and < {limits['bytes'] / 1e3:.0f} KB: "
        f"{'yes' if result['holds'] else 'NO'}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
