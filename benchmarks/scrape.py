"""What one scrape of the metrics costs while a coordinator grows old.

Claim: with the same clients and jobs, a scrape after a thousand rounds takes at most 2 times a scrape after ten,
measured turn by turn in the same run.

    python benchmarks/scrape.py [--clients 10000] [--rounds 1000] [--json FILE]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fed_compute.clock import ManualClock
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.ids import ClientId, RoundId
from fed_compute.protocol.job import parse_job
from fed_compute.rounds.records import Client
from fed_compute.server.app import create_app
from fed_compute.server.prometheus import exposition

FEW_ROUNDS = 10
UPDATES_IN_A_ROUND = 20
MOST_RATIO = 2.0
SCRAPES = 30


@dataclass(frozen=True, slots=True)
class Aged:
    """A coordinator that has seen so many rounds, and how to scrape it."""

    core: Coordinator
    scrape: Callable[[], bytes]
    seconds_to_read: float


def main() -> int:
    """Measure, print a table, and say whether the claim holds."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--clients", type=int, default=10_000, help="registered clients (default 10000)")
    arguments.add_argument("--rounds", type=int, default=1_000, help="rounds of the old one (default 1000)")
    arguments.add_argument("--json", type=Path, help="also write the result to this file")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), clients=options.clients, rounds=options.rounds)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["holds"] else 1


def measure(folder: Path, *, clients: int, rounds: int) -> dict:
    """Scrape a young and an old coordinator in turn."""
    young, old = (grow(folder / str(count), clients=clients, rounds=count) for count in (FEW_ROUNDS, rounds))
    seconds: dict[str, list[float]] = {"young": [], "old": []}
    for _ in range(SCRAPES):
        for name, aged in (("young", young), ("old", old)):
            began = time.perf_counter()
            num_bytes = len(aged.scrape())
            seconds[name].append(time.perf_counter() - began)
    for aged in (young, old):
        aged.core.close()
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ratio = medians["old"] / medians["young"]
    return {
        "clients": clients,
        "rounds": {"young": FEW_ROUNDS, "old": rounds},
        "scrape_ms": {name: round(1e3 * median, 2) for name, median in medians.items()},
        "scrape_bytes": num_bytes,
        "journal_entries_per_second": round(rounds * (3 + 2 * UPDATES_IN_A_ROUND) / old.seconds_to_read),
        "ratio": round(ratio, 2),
        "most_ratio": MOST_RATIO,
        "holds": ratio <= MOST_RATIO,
    }


def grow(folder: Path, *, clients: int, rounds: int) -> Aged:
    """Return a coordinator on whose record are clients, and a journal of rounds that its readers have read."""
    clock = ManualClock()
    core = open_coordinator(load_settings(data_dir=folder), clock=clock)
    job = core.jobs.create(parse_job({"name": "default", "rounds": {"total": rounds + 1}}))
    with core.store.transaction() as records:
        for number in range(clients):
            now = clock.now()
            records.clients.add(Client(ClientId(f"client-{number}"), "{}", registered_at=now, last_seen_at=now))
    write_rounds(core, job.job_id, clients=clients, rounds=rounds)
    began = time.perf_counter()
    core.metrics.catch_up()
    taken = time.perf_counter() - began
    state = create_app(core).state.server
    return Aged(core, lambda: exposition(state, accept="")[0], taken)


def write_rounds(core: Coordinator, job_id: int, *, clients: int, rounds: int) -> None:
    """Write into the journal what so many rounds leave there."""
    client = 0
    for number in range(1, rounds + 1):
        with core.store.transaction() as records:
            write, round_id = records.journal.append, RoundId(number)
            at = float(number)
            named = {"at": at, "job_id": job_id, "round_id": round_id}
            if number > 1:
                write("round_opened", number=number, base_version=number, mode="sync", **named)
            write("round_started", deadline=at + 60, **named)
            for _ in range(UPDATES_IN_A_ROUND):
                client = (client + 1) % clients
                who = {**named, "client_id": ClientId(f"client-{client}")}
                write("task_assigned", task="train", version=number, **who)
                write(
                    "update_accepted", num_samples=32, size_bytes=14_000, l2_norm=1.0, loss=0.5, latency_seconds=3.0,
                    staleness=0, **who,
                )  # fmt: skip
            write("round_aggregating", num_updates=UPDATES_IN_A_ROUND, **named)
            write("round_closed", version=number + 1, **named)


def show(result: dict) -> None:
    """Print the table."""
    table = Table(title=f"One scrape, {result['clients']} clients, one job")
    for name in ("", "rounds", "median"):
        table.add_column(name, justify="right")
    for name in ("young", "old"):
        table.add_row(name, str(result["rounds"][name]), f"{result['scrape_ms'][name]} ms")
    console = Console()
    console.print(table)
    console.print(
        f"{result['scrape_bytes']} bytes; the old one takes {result['ratio']} times the young one, at most "
        f"{result['most_ratio']}: {'holds' if result['holds'] else 'DOES NOT HOLD'}. The readers take in "
        f"{result['journal_entries_per_second']} lines of the journal a second."
    )


if __name__ == "__main__":
    sys.exit(main())
