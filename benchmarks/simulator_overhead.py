"""What does the coordinator's core cost for each client of each round, however many clients are registered?

Updates go the whole way, from the lease to the next version, through the same code as in a simulation, in batches as
there: leases, admission, the checks of form and values, the blob's digest, rows and journal, the fold. Nobody trains;
updates are made beforehand and not counted. Time is processor time of this process, in microseconds for each client
and round:

    enrol     registering a client, once
    grant     choosing who may have a lease, the lease, its journal line
    accept    admission, all checks, digest, rows, journal
    publish   reading the updates again, folding them, the next version

The model has 100 000 parameters; `bookkeeping` is one of 110, of which little is left to hash, to check and to fold.
`alone` is the same small model through the entry points for one client.

Exits with 1 if a client and round of the large model costs more than 120 µs with any number of registered clients, or
20 % more than with another.
"""

import argparse
import gc
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

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

TARGET_MICROSECONDS = 120.0
FLAT_WITHIN = 0.2
SMALL, LARGE = 10, 9_999  # inputs of a linear layer of 10 outputs: 110 and 100 000 parameters
UNLIMITED = 10**9
STEPS = ("grant", "accept", "publish")

_T = TypeVar("_T")


def main() -> int:
    """Measure, show, write what was asked for, and say whether the claim holds."""
    options = _options()
    counts = [count for count in (1_000, 10_000, 100_000, 1_000_000) if count <= options.most]
    found = {count: _measure(count, options) for count in counts}
    core = Core(1_000, per_round=options.per_round, batch=options.batch)
    alone = core.measure(core.job("alone", SMALL), rounds=1, alone=True)
    totals = [_sum(one.large) for one in found.values()]
    spread = max(totals) / min(totals) - 1
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "clients_per_round": options.per_round,
        "batch": options.batch,
        "enrol_microseconds": {count: one.enrol for count, one in found.items()},
        "microseconds": {count: one.large for count, one in found.items()},
        "bookkeeping_microseconds": {count: one.small for count, one in found.items()},
        "alone_microseconds": alone,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "target_microseconds": TARGET_MICROSECONDS,
        "spread": spread,
        "is_flat": spread <= FLAT_WITHIN,
        "is_within_target": max(totals) <= TARGET_MICROSECONDS,
    }
    _show(report, json_only=options.json)
    if options.docs:
        pictures = options.docs / "pictures"
        (pictures / "overhead.json").write_text(json.dumps(report, indent=1) + "\n")
        draw(report, pictures / "overhead.png")
    return 0 if report["is_flat"] and report["is_within_target"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=1_000_000, help="most registered clients (default %(default)s)")
    parser.add_argument("--per-round", type=int, default=1_000, help="clients of a round (default %(default)s)")
    parser.add_argument("--batch", type=int, default=1_000, help="updates that arrive together (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds measured, after one to warm up")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--docs", type=Path, metavar="DIR", help="also write picture and numbers into this docs folder")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Found:
    """Microseconds: to register a client, and by step for each client and round of either model."""

    enrol: float
    small: Mapping[str, float]
    large: Mapping[str, float]


def _measure(count: int, options: argparse.Namespace) -> Found:
    core = Core(count, per_round=options.per_round, batch=options.batch)
    print(f"{count:,} clients are registered", file=sys.stderr, flush=True)
    small = core.measure(core.job("small", SMALL), rounds=options.rounds)
    large = core.measure(core.job("large", LARGE), rounds=options.rounds)
    core.close()
    return Found(core.enrol_microseconds, small, large)


def _sum(steps: Mapping[str, float]) -> float:
    return sum(steps[step] for step in STEPS)


class Core:
    """A coordinator in memory, with clients and jobs whose rounds take exactly `per_round` updates."""

    def __init__(self, num_clients: int, *, per_round: int, batch: int) -> None:
        self._clock = ManualClock()
        self._core = _open(self._clock)
        self._per_round = per_round
        self._batch = batch
        self._rng = np.random.default_rng(0)
        self._costs: defaultdict[str, float] = defaultdict(float)
        began = time.process_time()
        names = [f"client-{number:07d}" for number in range(num_clients)]
        self._clients = self._core.bulk.enrolment.enrol(names)
        self.enrol_microseconds = 1e6 * (time.process_time() - began) / num_clients
        self._clock.advance(3_600.0)

    def job(self, name: str, inputs: int) -> Job:
        """Create a job of a linear model with this number of inputs."""
        return self._core.jobs.create(_job(name, self._per_round, inputs))

    def close(self) -> None:
        """Let go of everything."""
        self._core.close()

    def measure(self, job: Job, *, rounds: int, alone: bool = False) -> dict[str, float]:
        """Return what each step costs, in microseconds for each client and round, after a round to warm up."""
        keys = self._keys() if alone else {}
        for number in range(rounds + 1):
            if number == 1:
                self._costs.clear()
                gc.collect()
                gc.freeze()  # as a simulation does
            self._round(job, keys) if alone else self._round_in_batches(job)
        gc.unfreeze()
        return {step: 1e6 * cost / (rounds * self._per_round) for step, cost in self._costs.items()}

    def _round_in_batches(self, job: Job) -> None:
        places = self._rng.choice(len(self._clients), self._per_round, replace=False)
        chosen = [self._clients[place] for place in places]
        granted = self._timed("grant", lambda: self._core.bulk.tasks.grant(chosen, job=job.job_id))
        assert granted is not None
        bodies = _bodies(job, granted, self._rng)
        self._clock.advance(10.0)
        for start in range(0, self._per_round, self._batch):
            batch = [
                Delivery(task.client_id, task.task_id, body, self._clock.now())
                for task, body in list(zip(granted.tasks, bodies, strict=True))[start : start + self._batch]
            ]
            answers = self._timed("accept", lambda batch=batch: self._core.bulk.pipeline.accept(batch))
            assert all(isinstance(answer, Accepted) for answer in answers), answers
        self._publish(granted)

    def _round(self, job: Job, keys: Mapping[ClientId, str]) -> None:
        def ask() -> list[Assignment]:
            return [self._core.tasks.next_task(client_id, heartbeats=False, evaluates=False) for client_id in chosen]

        chosen = self._clients[: self._per_round]
        assignments = self._timed("grant", ask)
        first = assignments[0]
        granted = Granted(first.job, first.round, first.version, tuple(one.task for one in assignments))
        bodies = _bodies(job, granted, self._rng)

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

    def _timed(self, step: str, work: Callable[[], _T]) -> _T:
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


def _job(name: str, per_round: int, inputs: int) -> Any:
    rounds = {"total": 1_000, "target_updates": per_round, "min_updates": per_round, "over_selection": 1.0}
    model = {"name": "linear", "args": {"input_dim": inputs, "output_dim": 10}}
    evaluation = {"every_rounds": 0}
    return parse_job({"name": name, "model": model, "rounds": rounds, "evaluation": evaluation})


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


def _show(report: Mapping[str, Any], *, json_only: bool) -> None:
    console = Console(file=sys.stdout, highlight=False)
    if not json_only:
        screen = Table(title=f"Microseconds for each client and round ({report['machine']})", box=None)
        for heading in ("registered", "model", *STEPS, "in all"):
            screen.add_column(heading, justify="right")
        for key, what in (("microseconds", "100 000 parameters"), ("bookkeeping_microseconds", "110 parameters")):
            for count, steps in report[key].items():
                screen.add_row(f"{count:,}", what, *(f"{steps[step]:.0f}" for step in STEPS), f"{_sum(steps):.0f}")
        steps = report["alone_microseconds"]
        screen.add_row("1,000", "110, one by one", *(f"{steps[step]:.0f}" for step in STEPS), f"{_sum(steps):.0f}")
        console.print(screen)
        console.print(
            f"{'within' if report['is_within_target'] else 'ABOVE'} {TARGET_MICROSECONDS:.0f} µs, "
            f"{'flat' if report['is_flat'] else 'NOT FLAT'}: differs by {report['spread']:.0%}; "
            f"{report['peak_memory_mib']:,} MiB at most"
        )
    console.print_json(data=report)


INK, FAINT, GRID = "#222222", "#6b6b6b", "#e4e4e4"
COLOURS = {"grant": "#e69f00", "accept": "#0072b2", "publish": "#009e73"}
"""Colours that people with any kind of colour blindness tell apart."""
LABELS = {"grant": "leases", "accept": "acceptance", "publish": "version"}


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG on white: what each step costs, one upon the other, against the number of registered clients."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    counts = list(report["microseconds"])
    figure = Figure(figsize=(8.6, 4.8), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0.075, 0.12, 0.74, 0.72))
    below = np.zeros(len(counts))
    for step in STEPS:
        above = below + [report["microseconds"][count][step] for count in counts]
        axis.fill_between(counts, below, above, color=COLOURS[step], alpha=0.3, linewidth=0)
        label = f"{LABELS[step]} {above[-1] - below[-1]:.0f} µs"
        axis.text(counts[-1] * 1.12, (below[-1] + above[-1]) / 2, label, fontsize=10, color=COLOURS[step], va="center")
        below = above
    axis.plot(counts, below, color=INK, linewidth=1.8, marker="o", markersize=5)
    for count, total in zip(counts, below, strict=True):
        axis.annotate(f"{total:.0f}", (count, total), (0, 8), textcoords="offset points", ha="center", weight="bold")
    small = [_sum(report["bookkeeping_microseconds"][count]) for count in counts]
    axis.plot(counts, small, color=FAINT, linewidth=1.4, marker="o", markersize=4)
    note = {"textcoords": "offset points", "fontsize": 9.5, "color": INK}
    label = f"with a model of 110 parameters: {min(small):.0f} to {max(small):.0f} µs"
    axis.annotate(label, (counts[0], small[0]), (6, 6), **note)
    axis.axhline(TARGET_MICROSECONDS, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    label = f"target {TARGET_MICROSECONDS:.0f} µs"
    axis.annotate(label, (counts[-1], TARGET_MICROSECONDS), (-6, -13), ha="right", **note)
    axis.set(xscale="log", xlim=(counts[0] * 0.75, counts[-1] * 1.05), ylim=(0, 1.2 * max(*below, TARGET_MICROSECONDS)))
    axis.set_xticks(counts, [f"{count:,}".replace(",", " ") for count in counts])
    axis.minorticks_off()
    axis.set_xlabel("registered clients", fontsize=9.5, color=INK)
    axis.set_ylabel("microseconds for each client and round", fontsize=9.5, color=INK)
    axis.tick_params(labelsize=9, colors=FAINT, length=0)
    axis.grid(color=GRID, linewidth=0.8, axis="y")
    axis.set_axisbelow(True)
    for side in axis.spines.values():
        side.set_visible(False)
    title = f"The core costs {min(below):.0f} to {max(below):.0f} µs for each client and round"
    figure.text(0.02, 0.945, title, fontsize=13, weight="bold", color=INK)
    subtitle = (
        f"100 000 parameters, rounds of {report['clients_per_round']:,} clients; processor time; {report['machine']}"
    )
    figure.text(0.02, 0.885, subtitle, fontsize=9, color=FAINT)
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    raise SystemExit(main())
