"""What does the coordinator's core cost for each client of each round, however many clients are registered?

Batches of 100 updates go the whole way, from the lease to the next version, through the same code as in a simulation:
leases, admission, the checks of form and values, the blob's digest, rows and journal, the fold. Nobody trains; updates
are made beforehand and not counted. Time is processor time of this process, in microseconds for each client and round:

    enrol     registering a client, once
    grant     choosing who may have a lease, the lease, its journal line
    accept    admission, all checks, digest, rows, journal
    publish   reading the updates again, folding them, the next version

`records` is a model of 110 parameters: what is left is the core's bookkeeping. `values` is what 100 000 parameters add
to it: hashing, checking and folding 400 kB. `alone` is the same work through the entry points for one client.

Exits with 1 unless bookkeeping is flat within 20 % over the numbers of clients.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fed_compute.clock import ManualClock
from fed_compute.coordinator.bulk import Delivery, Granted
from fed_compute.coordinator.pipeline import Accepted
from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.ids import ClientId
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.job import parse_job
from fed_compute.protocol.updates import encode_update
from fed_compute.rounds.records import Job
from fed_compute.storage.blob_stores import IN_PROCESS

BATCH = 100
TARGET_MICROSECONDS = 120.0
FLAT_WITHIN = 0.2
SMALL, LARGE = 10, 9_999  # inputs of a linear layer of 10 outputs: 110 and 100 000 parameters
UNLIMITED = 10**9


def main() -> int:
    """Measure, show, and say whether the curve is flat."""
    options = _options()
    counts = [count for count in (1_000, 10_000, 100_000, 1_000_000) if count <= options.most]
    records = {
        count: Core(count, per_round=options.per_round, inputs=SMALL).measure(options.rounds) for count in counts
    }
    large = Core(1_000, per_round=options.per_round, inputs=LARGE).measure(2)
    alone = Core(1_000, per_round=options.per_round, inputs=SMALL).measure(1, alone=True)
    totals = [sum(cost for step, cost in found.items() if step != "enrol") for found in records.values()]
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "clients_per_round": options.per_round,
        "records_microseconds": records,
        "large_microseconds": large,
        "alone_microseconds": alone,
        "target_microseconds": TARGET_MICROSECONDS,
        "spread": max(totals) / min(totals) - 1,
        "is_flat": max(totals) <= (1 + FLAT_WITHIN) * min(totals),
    }
    _show(report, json_only=options.json)
    return 0 if report["is_flat"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=1_000_000, help="most registered clients (default %(default)s)")
    parser.add_argument("--per-round", type=int, default=1_000, help="clients of a round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds measured, after one to warm up")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    return parser.parse_args()


class Core:
    """A coordinator in memory, with clients and a job whose rounds take exactly `per_round` updates."""

    def __init__(self, num_clients: int, *, per_round: int, inputs: int) -> None:
        self._clock = ManualClock()
        self._core = _open(self._clock)
        self._job = self._core.jobs.create(_job(per_round, inputs))
        self._per_round = per_round
        self._rng = np.random.default_rng(0)
        self._costs: Counter[str] = Counter()
        began = time.process_time()
        names = [f"client-{number:07d}" for number in range(num_clients)]
        self._clients = self._core.bulk.enrolment.enrol(names)
        self._enrol = (time.process_time() - began) / num_clients
        self._clock.advance(3_600.0)

    def measure(self, rounds: int, *, alone: bool = False) -> dict[str, float]:
        """Return what each step costs, in microseconds for each client and round, after a round to warm up."""
        keys = self._keys() if alone else {}
        for number in range(rounds + 1):
            if number == 1:
                self._costs.clear()
            self._round(keys) if alone else self._round_in_batches()
        self._core.close()
        steps = {step: 1e6 * cost / (rounds * self._per_round) for step, cost in self._costs.items()}
        return {"enrol": 1e6 * self._enrol, **steps}

    def _round_in_batches(self) -> None:
        places = self._rng.choice(len(self._clients), self._per_round, replace=False)
        chosen = [self._clients[place] for place in places]
        granted = self._timed("grant", lambda: self._core.bulk.tasks.grant(chosen, job=self._job.job_id))
        bodies = _bodies(self._job, granted, self._rng)
        self._clock.advance(10.0)
        for start in range(0, self._per_round, BATCH):
            batch = [
                Delivery(task.client_id, task.task_id, body, self._clock.now())
                for task, body in list(zip(granted.tasks, bodies, strict=True))[start : start + BATCH]
            ]
            answers = self._timed("accept", lambda batch=batch: self._core.bulk.pipeline.accept(batch))
            assert all(isinstance(answer, Accepted) for answer in answers), answers
        self._publish(granted)

    def _round(self, keys: dict[ClientId, str]) -> None:
        def ask() -> list[Assignment]:
            return [self._core.tasks.next_task(client_id, heartbeats=False, evaluates=False) for client_id in chosen]

        chosen = self._clients[: self._per_round]
        assignments = self._timed("grant", ask)
        first = assignments[0]
        granted = Granted(first.job, first.round, first.version, tuple(one.task for one in assignments))
        bodies = _bodies(self._job, granted, self._rng)

        def send() -> None:
            for task, body in zip(granted.tasks, bodies, strict=True):
                path = self._core.blobs.incoming(task.task_id)
                admission = self._core.pipeline.admit(keys[task.client_id], task.task_id)
                path.write_bytes(body)
                self._core.pipeline.accept_file(admission, path, sha256_hex(body))

        self._timed("accept", send)
        self._publish(granted)

    def _publish(self, granted: Granted) -> None:
        def advance() -> None:
            while self._core.publisher.advance():
                pass

        self._timed("publish", advance)
        with self._core.store.snapshot() as records:
            updates = records.updates.of_round(granted.round.round_id)
        for update in updates:
            self._core.blobs.remove(update.digest)

    def _keys(self) -> dict[ClientId, str]:
        keys = self._core.keys
        return {one: keys.rotate_client(one, overlap_seconds=0.0, by="b").text for one in self._clients}

    def _timed(self, step: str, work: Any) -> Any:
        began = time.process_time()
        result = work()
        self._costs[step] += time.process_time() - began
        return result


def _open(clock: ManualClock) -> Coordinator:
    settings = load_settings(
        data_dir=Path(tempfile.mkdtemp(prefix="fed-compute-overhead-")),
        database_url="sqlite://",
        blob_url=IN_PROCESS,
        newcomer_quota=UNLIMITED,
        daily_quota=UNLIMITED,
        updates_per_minute=UNLIMITED,
    )
    return open_coordinator(settings, clock=clock)


def _job(per_round: int, inputs: int) -> Any:
    rounds = {"total": 1_000, "target_updates": per_round, "min_updates": per_round, "over_selection": 1.0}
    model = {"name": "linear", "args": {"input_dim": inputs, "output_dim": 10}}
    evaluation = {"every_rounds": 0}
    return parse_job({"name": "overhead", "model": model, "rounds": rounds, "evaluation": evaluation})


def _bodies(job: Job, granted: Granted, rng: np.random.Generator) -> list[bytes]:
    """Return an update of each lease: all of one direction, no two of one length."""
    schema = schema_of(job)
    delta = rng.standard_normal(schema.num_parameters).astype(np.float32)
    return [
        encode_update(
            delta * np.float32(0.5 + number * 1e-4),
            encoding="f32",
            compression="none",
            topk_fraction=1.0,
            schema_digest=schema.digest(),
            num_samples=10,
            loss=1.0,
            train_seconds=None,
            rng=rng,
        )
        for number in range(len(granted.tasks))
    ]


def _show(report: dict[str, Any], *, json_only: bool) -> None:
    console = Console(file=sys.stdout, highlight=False)
    if not json_only:
        screen = Table(title=f"Microseconds for each client and round ({report['machine']})", box=None)
        for heading in ("registered", "model", "enrol once", "grant", "accept", "publish", "in all"):
            screen.add_column(heading, justify="right")
        lines = [(f"{count:,}", "records", found) for count, found in report["records_microseconds"].items()]
        lines += [("1,000", "100 000 parameters", report["large_microseconds"])]
        lines += [("1,000", "records, one by one", report["alone_microseconds"])]
        for registered, what, found in lines:
            steps = [found[step] for step in ("grant", "accept", "publish")]
            screen.add_row(registered, what, *(f"{cost:.0f}" for cost in (found["enrol"], *steps, sum(steps))))
        console.print(screen)
        console.print(f"{'flat' if report['is_flat'] else 'NOT FLAT'}: bookkeeping differs by {report['spread']:.0%}")
    console.print_json(data=report)


if __name__ == "__main__":
    raise SystemExit(main())
