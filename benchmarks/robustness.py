"""How well a model learns when 5 of 25 clients lie: every attack against every aggregation rule, on real digits.

Claim 1: with data alike, the rule `robust` keeps 93 % accuracy under each of the eight attacks of published tables.
Claim 2: a plain mean does not: model replacement ("scaling") takes it below 20 %.

    python benchmarks/robustness.py [--quick] [--seeds 1] [--splits iid,dirichlet,sorted] [--json FILE] [--docs DIR]

`make bench-robust` runs all of it and writes the tables and the picture into docs/. Attackers, data, batches and
models are the product's (`fed_compute.simulator`), and so are the rules and the server's step.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table as Screen
from rich.text import Text

from fed_compute.simulator.attacks import ATTACKS
from fed_compute.simulator.robustness import DEFENCES, Result, Setting, Split, run_trial
from fed_compute.simulator.robustness.picture import draw
from fed_compute.simulator.robustness.setting import SPLITS
from fed_compute.simulator.robustness.table import DEFENCE_LABELS, PAPER_ATTACKS, SPLIT_LABELS, Cell, Table

ROBUST_AT_LEAST = 93.0
MEAN_BELOW = 20.0
QUICK_ROUNDS = 200
QUICK_ROBUST_AT_LEAST = 80.0
QUICK_ATTACKS = ("none", "scaling", "fall_of_empires")
QUICK_DEFENCES = ("fedavg", "robust")
PAGE = Path("explanation") / "robust-aggregation.md"
BEGIN, END = "<!-- measured: written by make bench-robust -->\n", "<!-- end of measured -->\n"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """One attack on one kind of data with one seed, against all defences."""

    setting: Setting
    split: Split
    attack: str
    seed: int
    defences: tuple[str, ...]


def main() -> int:
    """Run the experiment, show the tables, write what was asked for, and say whether the claims hold."""
    options = _options()
    setting = Setting(rounds=options.rounds, lr=options.lr, momentum=options.momentum)
    jobs = [
        Job(setting, split, attack, seed, tuple(options.defences))
        for split in options.splits
        for attack in options.attacks
        for seed in range(options.seeds)
    ]
    started = time.perf_counter()
    measured = tabulate(jobs, run_all(jobs, workers=options.workers))
    minutes = (time.perf_counter() - started) / 60
    table = Table.from_json(measured.to_json())  # rounded as it is kept, so that all that is shown agrees
    claims = check(table, robust_at_least=QUICK_ROBUST_AT_LEAST if options.quick else ROBUST_AT_LEAST)
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "minutes": round(minutes, 1),
        "workers": options.workers,
        "seeds": options.seeds,
        "setting": asdict(setting),
        "claims": claims,
        "cells": table.to_json(),
    }
    show(table, report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.docs and not is_whole(table, setting):
        Console(stderr=True).print(f"{options.docs} keeps the whole table and is left alone; this was a part of it")
    elif options.docs:
        write_docs(table, report, options.docs)
    return 0 if all(claim["holds"] for claim in claims) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few cells and rounds, to see that it runs")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each cell, averaged (default 1)")
    for name, known in (("splits", SPLITS), ("attacks", tuple(ATTACKS)), ("defences", tuple(DEFENCES))):
        parser.add_argument(
            f"--{name}", type=_names(known), metavar="A,B", help=f"only these {name} (default all: {', '.join(known)})"
        )
    parser.add_argument("--rounds", type=int, help=f"rounds of each run (default {Setting().rounds})")
    for name in ("lr", "momentum"):
        default = getattr(Setting(), name)
        parser.add_argument(f"--{name}", type=float, default=default, help=f"of the clients (default {default})")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to this file")
    parser.add_argument("--docs", type=Path, metavar="DIR", help="also write tables and picture into this docs folder")
    options = parser.parse_args()
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else Setting().rounds)
    options.splits = options.splits or (("iid",) if options.quick else SPLITS)
    options.attacks = options.attacks or (QUICK_ATTACKS if options.quick else tuple(ATTACKS))
    options.defences = options.defences or (QUICK_DEFENCES if options.quick else tuple(DEFENCES))
    return options


def _names(known: Sequence[str]) -> Any:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: unknown; known: {', '.join(known)}")
        return names

    return parse


def run_all(jobs: Sequence[Job], *, workers: int) -> list[dict[str, Result]]:
    """Return the results of all jobs in their order; a bar on standard error tells how far it is.

    Each process works on one thread: many small products gain nothing from more, and lose much where cores are busy.
    """
    os.environ |= dict.fromkeys(ONE_THREAD, "1")  # read by the worker processes when they start
    context = multiprocessing.get_context("spawn")
    done: Queue[int] = context.Queue()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(done,))
    with pool, _progress() as progress:
        task = progress.add_task("cells", total=sum(job.setting.rounds for job in jobs))
        futures = [pool.submit(_work, job) for job in jobs]
        for rounds in _until_done(futures, done):
            finished = sum(future.done() for future in futures)
            progress.update(task, advance=rounds, description=f"{finished} of {len(jobs)} trials")
    return [future.result() for future in futures]


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
    )


def _until_done(futures: Sequence[Future[dict[str, Result]]], done: "Queue[int]") -> Iterator[int]:
    """Yield how many more rounds were played, until all are; an error in a worker ends it at once."""
    while not all(future.done() for future in futures):
        for future in futures:
            if future.done():
                future.result()
        try:
            yield done.get(timeout=0.5)
        except Empty:
            yield 0
    while not done.empty():
        yield done.get()


_done: "Queue[int] | None" = None


def _start(done: "Queue[int]") -> None:
    global _done
    import torch

    torch.set_num_threads(1)
    _done = done


def _work(job: Job) -> dict[str, Result]:
    reported = 0

    def report(rounds: int) -> None:
        nonlocal reported
        if _done is not None and (rounds - reported >= 20 or rounds == job.setting.rounds):
            _done.put(rounds - reported)
            reported = rounds

    return dict(run_trial(job.setting, job.split, job.attack, job.defences, seed=job.seed, progress=report))


def tabulate(jobs: Sequence[Job], results: Sequence[dict[str, Result]]) -> Table:
    """Join the seeds of each cell."""
    seeds: dict[tuple[Split, str, str], list[Result]] = {}
    for job, result in zip(jobs, results, strict=True):
        for defence, outcome in result.items():
            seeds.setdefault((job.split, job.attack, defence), []).append(outcome)
    return Table(
        Cell(*place, tuple(one.accuracy for one in found), sum(one.failed_rounds for one in found))
        for place, found in seeds.items()
    )


def check(table: Table, *, robust_at_least: float) -> list[dict[str, Any]]:
    """Return the claims that this table can judge, with what was found."""
    claims: list[dict[str, Any]] = []
    if "iid" not in table.splits:
        return claims
    attacks = [attack for attack in table.attacks if attack in PAPER_ATTACKS]
    if "robust" in table.defences and attacks:
        worst = table.worst("iid", "robust", attacks)
        text = f"robust keeps {robust_at_least:.0f} % under each of {len(attacks)} published attacks, data alike"
        claims.append({"claim": text, "found": round(worst, 1), "holds": worst >= robust_at_least})
    if "fedavg" in table.defences and "scaling" in attacks:
        mean = table.mean("iid", "scaling", "fedavg")
        text = f"a plain mean falls below {MEAN_BELOW:.0f} % under scaling"
        claims.append({"claim": text, "found": round(mean, 1), "holds": mean < MEAN_BELOW})
    return claims


def show(table: Table, report: dict[str, Any]) -> None:
    """Print the tables and the claims."""
    console = Console(file=sys.stdout, highlight=False)
    setting = report["setting"]
    console.print(
        f"Accuracy in percent: {setting['num_attackers']} of {setting['num_clients']} clients lie, "
        f"{setting['rounds']} rounds, {report['seeds']} seed(s); {report['minutes']} min on {report['machine']}"
    )
    for split in table.splits:
        screen = Screen(title=SPLIT_LABELS[split], title_justify="left", box=None, padding=(0, 0, 0, 1))
        screen.add_column("attack")
        for defence in table.defences:
            screen.add_column(DEFENCE_LABELS[defence], justify="right")
        for label, values in table.rows(split):
            screen.add_row(label, *map(_coloured, values), style="bold" if label == "worst" else "")
        console.print()
        console.print(screen)
    legend = ", ".join(f"{DEFENCE_LABELS[name]} = {name}" for name in table.defences if DEFENCE_LABELS[name] != name)
    console.print(f"\n{legend}", style="dim")
    console.print()
    for claim in report["claims"]:
        console.print(f"{'holds' if claim['holds'] else 'FAILS'}: {claim['claim']}; found {claim['found']}")


def _coloured(value: float) -> Text:
    """Blue is good and orange is bad: a pair that people with any kind of colour blindness can tell apart."""
    style = "dodger_blue1" if value >= 90 else "" if value >= 70 else "dark_orange" if value >= 30 else "dark_orange3"
    return Text(f"{value:.1f}", style=style)


def is_whole(table: Table, setting: Setting) -> bool:
    """Say whether nothing was left out or changed, so that the table may stand in the documentation."""
    found = (tuple(table.splits), tuple(table.attacks), tuple(table.defences))
    return found == (SPLITS, tuple(ATTACKS), tuple(DEFENCES)) and setting == Setting()


def write_docs(table: Table, report: dict[str, Any], docs: Path) -> None:
    """Write the picture, the numbers, and the tables between the two marks of the page on robust aggregation."""
    pictures = docs / "pictures"
    pictures.mkdir(exist_ok=True)
    setting = report["setting"]
    draw(
        table,
        pictures / "robustness.png",
        title=f"{setting['num_attackers']} of {setting['num_clients']} clients lie: what each aggregation rule keeps",
        subtitle="Accuracy on held-out handwritten digits, percent; "
        f"mean of {report['seeds']} runs of {setting['rounds']} rounds",
    )
    (pictures / "robustness.json").write_text(json.dumps(report, indent=1) + "\n")
    page = docs / PAGE
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    measured = (
        f"Measured by `make bench-robust` in {report['minutes']:.0f} minutes with {report['workers']} processes on "
        f"{report['machine']}. Each cell is the accuracy on held-out digits in percent, the mean of {report['seeds']} "
        f"runs of {setting['rounds']} rounds with different seeds.\n\n{table.to_markdown()}\n"
    )
    page.write_text(f"{before}{BEGIN}\n{measured}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
