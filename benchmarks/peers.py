"""How fast do other simulators train the same virtual clients on this machine, and how much memory do they take?

Fashion-MNIST, 64 examples a client, batch 32, one local epoch, SGD; the new model is measured on 8,000 held-out
pictures after every tenth round, by everybody. Contenders, each in processes of its own:

    fed-compute   `simulate`: the whole coordinator and real training, on all cores
    bare          a PyTorch loop over the clients and a mean; with one thread, and with one for each core
    pfl           pfl-research's simulated backend; one process with a thread for each core, and one for each core
    flwr          Flower's simulation engine, one worker for each core

`mlp` is a 784-128-64-10 perceptron with 100 clients a round, `cnn` two convolutions with 20, there against the bare
loop only. Contenders take turns, so that whoever else uses the machine disturbs all alike; ratios are taken within a
turn, and the medians count. Clients a second are those from the end of the tenth round to the end of the last, a
multiple of ten: each ten rounds have one measurement, and but for our second process all are up and warm. Beside it are
those from the start of the process to the end of round 20, for all alike. Memory is the highest sum over a contender's
processes of what each has alone and its part of what they share (PSS), in a short run of its own.

The others are installed into environments of their own, with the versions of `benchmarks/peers/*.txt`, which are
never imported here. Exits with 1 if an aim is missed.
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import platformdirs
import psutil
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fed_compute.client.datasets import load_dataset

FOLDER = Path(__file__).parent / "peers"
OURS, BARE, BARE_ONE, FLWR = "fed-compute", "bare, all cores", "bare, 1 thread", "flwr"
PFL, PFL_ALL = "pfl", "pfl, all cores"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PICTURES = 40_000
COHORT = {"mlp": 100, "cnn": 20}
MEASURE_EVERY = 10
WARM_UP_ROUNDS, START_ROUNDS, MEMORY_ROUNDS = MEASURE_EVERY, 2 * MEASURE_EVERY, MEASURE_EVERY
SAMPLE_SECONDS = 0.1
LONGEST_RUN_SECONDS = 300.0
PAGE = Path("explanation") / "other-simulators.md"
BEGIN, END = "<!-- measured: written by make bench-peers -->\n", "<!-- end of measured -->\n"
PICTURE = (
    "![Clients a second and peak memory of fed-compute, a bare PyTorch loop, pfl and Flower](../pictures/peers.png)"
)
INK, FAINT, GREY, BLUE = "#222222", "#6b6b6b", "#c3c3c3", "#0072b2"


@dataclass(frozen=True)
class Contender:
    """A script, the interpreter that runs it, what it is told after the folder with the pictures, and its rounds.

    Those are a multiple of `MEASURE_EVERY`, and at least `START_ROUNDS`.
    """

    name: str
    script: str
    environment: str | None
    arguments: tuple[str, ...]
    rounds: int
    launcher: tuple[str, ...] = ()

    def command(self, environments: Path, data: Path, rounds: int) -> list[str]:
        """Return the words that start it."""
        python = sys.executable if self.environment is None else str(python_of(environments / self.environment))
        arguments = [str(rounds) if word == "ROUNDS" else word for word in self.arguments]
        return [python, *self.launcher, str(FOLDER / self.script), str(data), *arguments]


EVERY = str(MEASURE_EVERY)
A_PROCESS_A_CORE = ("-m", "torch.distributed.run", "--nproc-per-node", str(CORES))
CONTENDERS = {
    "mlp": (
        Contender(OURS, "fed_compute_simulate.py", None, ("mlp", "ROUNDS", EVERY), 110),
        Contender(BARE, "bare_loop.py", None, ("mlp", "ROUNDS", EVERY, str(CORES)), 50),
        Contender(BARE_ONE, "bare_loop.py", None, ("mlp", "ROUNDS", EVERY, "1"), 50),
        Contender(PFL, "pfl_mlp.py", "pfl", ("ROUNDS", EVERY, str(CORES)), 50),
        Contender(PFL_ALL, "pfl_mlp.py", "pfl", ("ROUNDS", EVERY, "1"), 50, launcher=A_PROCESS_A_CORE),
        Contender(FLWR, "flower_mlp.py", "flwr", ("ROUNDS", EVERY), 20),
    ),
    "cnn": (
        Contender(OURS, "fed_compute_simulate.py", None, ("cnn", "ROUNDS", EVERY), 50),
        Contender(BARE, "bare_loop.py", None, ("cnn", "ROUNDS", EVERY, str(CORES)), 40),
        Contender(BARE_ONE, "bare_loop.py", None, ("cnn", "ROUNDS", EVERY, "1"), 40),
    ),
}


@dataclass(frozen=True)
class Aim:
    """What is to hold of ours beside another: at least so many times its speed, at most so many times its memory."""

    workload: str
    beside: str
    what: str
    limit: float

    def is_reached(self, ratio: float) -> bool:
        """Say whether it holds."""
        return ratio >= self.limit if self.what == "speed" else ratio <= self.limit


AIMS = (
    Aim("mlp", BARE, "speed", 2.2),
    Aim("mlp", PFL, "speed", 3.0),
    Aim("mlp", PFL_ALL, "speed", 3.0),
    Aim("mlp", FLWR, "speed", 35.0),
    Aim("mlp", PFL, "memory", 1.5),
    Aim("mlp", PFL_ALL, "memory", 1.5),
    Aim("mlp", FLWR, "memory", 1.0),
    Aim("cnn", BARE, "speed", 1.25),
)


@dataclass(frozen=True)
class Run:
    """One run of a contender: clients a second once it is warm and from its start, and its accuracy after round 20."""

    steady: float
    with_start: float
    accuracy: float


def main() -> int:
    """Install, measure, show, write what was asked for, and say whether the aims are reached."""
    options = _options()
    started = time.monotonic()
    contenders = {
        workload: [one for one in found if options.peers or one.environment is None]
        for workload, found in CONTENDERS.items()
        if options.only in (None, workload)
    }
    console = Console(file=sys.stderr, highlight=False)
    with tempfile.TemporaryDirectory(prefix="fed-compute-peers-") as folder, _progress(console) as progress:
        data = Path(folder)
        for name in sorted({one.environment for found in contenders.values() for one in found if one.environment}):
            install(name, options.cache, progress)
        lay_out(data)
        bench = Bench(options.cache, data, progress)
        memory = {workload: bench.memory(workload, found) for workload, found in contenders.items()}
        runs = bench.take_turns(contenders, turns=options.turns)
    report = {
        "machine": machine(),
        "versions": {name: _pinned(name) for name in (PFL, FLWR)},
        "minutes": round((time.monotonic() - started) / 60, 1),
        "turns": options.turns,
        "workloads": {workload: summary(runs[workload], memory[workload]) for workload in contenders},
    }
    report["aims"] = judged(report["workloads"])
    report["holds"] = all(aim["is_reached"] for aim in report["aims"])
    show(report)
    _write(report, options)
    return 0 if report["holds"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(CONTENDERS), help="one workload (default both)")
    parser.add_argument("--skip-peers", dest="peers", action="store_false", help="leave pfl and flwr out")
    parser.add_argument("--turns", type=int, default=5, help="of each contender (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--docs", type=Path, metavar="DIR", help="also write picture and figures into this docs folder")
    cache = platformdirs.user_cache_path("fed-compute", appauthor=False) / "peers"
    parser.add_argument(
        "--cache", type=Path, default=cache, help="where the others are installed (default %(default)s)"
    )
    return parser.parse_args()


def install(name: str, environments: Path, progress: Progress) -> None:
    """Make the environment of a peer, unless it is there with the versions that are wanted."""
    wanted = (FOLDER / f"{name}.txt").read_bytes()
    folder, mark = environments / name, environments / name / "installed-sha256"
    digest = hashlib.sha256(wanted).hexdigest()
    if mark.is_file() and mark.read_text() == digest:
        return
    task = progress.add_task(f"installing {name}, minutes", total=None)
    venv.create(folder, clear=True, with_pip=True)
    command = [str(python_of(folder)), "-m", "pip", "install", "--quiet", "--requirement", str(FOLDER / f"{name}.txt")]
    subprocess.run(command, check=True)
    mark.write_text(digest)
    progress.remove_task(task)


def python_of(environment: Path) -> Path:
    """Return the interpreter of an environment."""
    return environment / ("Scripts" if os.name == "nt" else "bin") / "python"


def lay_out(folder: Path) -> None:
    """Write the pictures as all contenders read them: mapped arrays, and an archive for us."""
    found = load_dataset("fashion-mnist")
    x, y = found.x[:PICTURES], found.y[:PICTURES]
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    np.savez(folder / "pictures.npz", x=x, y=y)


class Bench:
    """Runs contenders one after the other, and shows how far they are."""

    def __init__(self, environments: Path, data: Path, progress: Progress) -> None:
        self._environments = environments
        self._data = data
        self._progress = progress

    def memory(self, workload: str, contenders: Sequence[Contender]) -> dict[str, float]:
        """Return the peak of each contender's memory, MiB."""
        peaks: dict[str, float] = {}
        for one in contenders:
            with Scale() as scale:
                self._run(one, MEMORY_ROUNDS, f"{workload}, memory", started=scale.weigh)
            peaks[one.name] = scale.peak_bytes / 2**20
        return peaks

    def take_turns(self, contenders: dict[str, list[Contender]], *, turns: int) -> dict[str, dict[str, list[Run]]]:
        """Return the runs of all turns, by workload and contender."""
        runs: dict[str, dict[str, list[Run]]] = {workload: {} for workload in contenders}
        for turn in range(turns):
            for workload, found in contenders.items():
                for one in found:
                    label = f"{workload}, turn {turn + 1} of {turns}"
                    began = time.monotonic()
                    lines = self._run(one, one.rounds, label)
                    runs[workload].setdefault(one.name, []).append(rates(lines, COHORT[workload], began=began))
        return runs

    def _run(
        self, one: Contender, rounds: int, label: str, *, started: Callable[[int], None] | None = None
    ) -> list[dict[str, float]]:
        """Run a contender to its end; return what it told after each round."""
        task = self._progress.add_task(f"{label}: {one.name}", total=rounds)
        lines: list[dict[str, float]] = []
        with process(one.command(self._environments, self._data, rounds)) as (running, errors):
            if started is not None:
                started(running.pid)
            for line in running.stdout or ():
                if line.startswith('{"round"'):
                    lines.append(json.loads(line))
                    self._progress.update(task, completed=lines[-1]["round"])
            status = running.wait()
            if status or len(lines) != rounds:
                errors.seek(0)
                last = "\n".join(errors.read().splitlines()[-12:])
                raise SystemExit(
                    f"{one.name} ended with status {status} after {len(lines)} of {rounds} rounds:\n{last}"
                )
        self._progress.remove_task(task)
        return lines


@contextmanager
def process(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Start a process; at the end, or after too long, end it and whatever it started."""
    with tempfile.TemporaryFile("w+") as errors:
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        watch = threading.Timer(LONGEST_RUN_SECONDS, end_with_children, [running.pid])
        watch.start()
        try:
            yield running, errors
        finally:
            watch.cancel()
            end_with_children(running.pid)
            running.communicate()


def end_with_children(pid: int) -> None:
    """Kill a process and its descendants, if they are there."""
    try:
        found = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return
    for one in found:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue


class Scale:
    """Weighs a process and its descendants until it is left."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Scale":
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def weigh(self, pid: int) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._watch, args=[pid], daemon=True)
        self._thread.start()

    def _watch(self, pid: int) -> None:
        while not self._is_over.wait(SAMPLE_SECONDS):
            try:
                found = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.peak_bytes = max(self.peak_bytes, sum(_part(one) for one in found))


def _part(one: psutil.Process) -> int:
    """Return the bytes that a process has alone and its part of what it shares; all it sees where that is not told."""
    try:
        found = one.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return int(getattr(found, "pss", found.rss))


def rates(lines: list[dict[str, float]], cohort: int, *, began: float) -> Run:
    """Return how fast a run was by the lines that it told; `began` is its start by the monotonic clock."""
    warm, early, last = lines[WARM_UP_ROUNDS - 1], lines[START_ROUNDS - 1], lines[-1]
    return Run(
        cohort * (len(lines) - WARM_UP_ROUNDS) / (last["at"] - warm["at"]),
        cohort * START_ROUNDS / (early["at"] - began),
        early["accuracy"],
    )


def summary(runs: dict[str, list[Run]], memory: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Return the medians of each contender, and those of ours beside it, turn by turn."""
    return {
        name: {
            "clients_per_second": statistics.median(run.steady for run in found),
            "clients_per_second_with_start": statistics.median(run.with_start for run in found),
            "memory_mib": memory[name],
            "accuracy": found[-1].accuracy,
            "speed_ratio": statistics.median(
                ours.steady / run.steady for ours, run in zip(runs[OURS], found, strict=True)
            ),
            "memory_ratio": memory[OURS] / memory[name],
            "turns": [asdict(run) for run in found],
        }
        for name, found in runs.items()
    }


def judged(workloads: dict[str, dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the aims about what was measured, and whether they are reached."""
    measured = [aim for aim in AIMS if aim.beside in workloads.get(aim.workload, {})]
    ratios = [workloads[aim.workload][aim.beside][f"{aim.what}_ratio"] for aim in measured]
    return [
        {**asdict(aim), "ratio": ratio, "is_reached": aim.is_reached(ratio)}
        for aim, ratio in zip(measured, ratios, strict=True)
    ]


def show(report: dict[str, Any]) -> None:
    """Print a table of each workload, and the aims."""
    console = Console(file=sys.stdout, highlight=False, width=120)
    for workload, found in report["workloads"].items():
        table = Table(title=f"{workload}: {report['turns']} turns, {report['machine']}", box=None)
        for heading in ("contender", "clients/s", "with start-up", "ours : it", "memory, MiB", "ours : it "):
            table.add_column(heading, justify="left" if heading == "contender" else "right")
        for name, one in found.items():
            table.add_row(
                name,
                f"{one['clients_per_second']:,.1f}",
                f"{one['clients_per_second_with_start']:,.1f}",
                f"{one['speed_ratio']:.2f}",
                f"{one['memory_mib']:,.0f}",
                f"{one['memory_ratio']:.2f}",
            )
        console.print(table)
    for aim in report["aims"]:
        wanted = f"{'at least' if aim['what'] == 'speed' else 'at most'} {aim['limit']:g}"
        verdict = "reached" if aim["is_reached"] else "MISSED"
        console.print(
            f"{verdict}: {aim['workload']}, {aim['what']} beside {aim['beside']}: {aim['ratio']:.2f}, wanted {wanted}"
        )


def _write(report: dict[str, Any], options: argparse.Namespace) -> None:
    text = json.dumps(report, indent=1) + "\n"
    if options.json:
        options.json.write_text(text)
    if options.docs:
        (options.docs / "pictures" / "peers.json").write_text(text)
        page = options.docs / PAGE
        page.write_text(with_measured(page.read_text(), report))
        draw(report["workloads"], report["machine"], options.docs / "pictures" / "peers.png")


def with_measured(page: str, report: dict[str, Any]) -> str:
    """Return the documentation page with the tables of a report between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}{as_markdown(report)}{END}{rest.split(END)[1]}"


def as_markdown(report: dict[str, Any]) -> str:
    """Return the tables of a report for the documentation."""
    lines = [
        "",
        PICTURE,
        "",
        f"Medians of {report['turns']} turns; {report['machine']}; pfl {report['versions'][PFL]}, ",
    ]
    lines[-1] += f"flwr {report['versions'][FLWR]}."
    for workload, found in report["workloads"].items():
        lines += ["", f"| {workload} | clients/s, steady | fed-compute : it | with start-up | peak memory, MiB |"]
        lines += ["|---|---:|---:|---:|---:|"]
        for name, one in found.items():
            ratio = "" if name == OURS else f"{one['speed_ratio']:.2f}"
            rates = f"{one['clients_per_second']:,.0f} | {ratio} | {one['clients_per_second_with_start']:,.0f}"
            lines += [f"| {name} | {rates} | {one['memory_mib']:,.0f} |"]
    lines += ["", "| aim | wanted | found | |", "|---|---:|---:|---|"]
    for aim in report["aims"]:
        wanted = f"{'≥' if aim['what'] == 'speed' else '≤'} {aim['limit']:g}"
        verdict = "reached" if aim["is_reached"] else "missed"
        lines += [f"| {aim['workload']}, {aim['what']} : {aim['beside']} | {wanted} | {aim['ratio']:.2f} | {verdict} |"]
    return "\n".join(lines) + "\n\n"


def draw(workloads: dict[str, dict[str, dict[str, Any]]], machine: str, path: Path) -> None:
    """Write a PNG: a panel for the speed of each workload and one for the memory of the first, a bar a contender."""
    panels = [
        (f"{workload.upper()}: clients a second", found, "clients_per_second", "speed_ratio")
        for workload, found in workloads.items()
    ]
    first = next(iter(workloads))
    panels.insert(1, (f"{first.upper()}: peak memory, MiB", workloads[first], "memory_mib", "memory_ratio"))
    heights = [0.8 + 0.36 * len(found) for _, found, _, _ in panels]
    figure = Figure(figsize=(8.6, 0.75 + sum(heights)), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    top = figure.get_figheight() - 0.85
    for (title, found, value, ratio), height in zip(panels, heights, strict=True):
        tall = 0.36 * len(found)
        bottom = (top - 0.3 - tall) / figure.get_figheight()
        axis = figure.add_axes((0.17, bottom, 0.66, tall / figure.get_figheight()))
        _draw_panel(axis, {name: (one[value], one[ratio]) for name, one in found.items()}, title)
        top -= height
    figure.text(
        0.02, 1 - 0.32 / figure.get_figheight(), "Beside other simulators", fontsize=13, weight="bold", color=INK
    )
    subtitle = f"Fashion-MNIST, 64 examples a client, medians; {machine}"
    figure.text(0.02, 1 - 0.58 / figure.get_figheight(), subtitle, fontsize=9, color=FAINT)
    figure.savefig(path, metadata={"Software": None})


def _draw_panel(axis: Any, bars: dict[str, tuple[float, float]], title: str) -> None:
    """Draw a bar for each contender, with its value and what ours is beside it, turn by turn."""
    values = [value for value, _ in bars.values()]
    axis.barh(range(len(bars)), values, height=0.68, color=[BLUE if name == OURS else GREY for name in bars])
    for place, (name, (value, ratio)) in enumerate(bars.items()):
        times = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
        text = f"{value:,.0f}" if name == OURS else f"{value:,.0f}   ours is {times} times that"
        axis.text(value + max(values) * 0.01, place, text, va="center", fontsize=9, color=INK)
    axis.set_yticks(range(len(bars)), list(bars))
    axis.set_xlim(0, max(values) * 1.2)
    axis.invert_yaxis()
    axis.set_title(title, loc="left", fontsize=10, color=INK, weight="bold", pad=4)
    axis.tick_params(labelsize=9, colors=INK, length=0, labelbottom=False)
    for side in axis.spines.values():
        side.set_visible(False)


def machine() -> str:
    """Describe where this runs."""
    return f"{CORES} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"


def _pinned(name: str) -> str:
    lines = (FOLDER / f"{name}.txt").read_text().splitlines()
    return next(line.removeprefix(f"{name}==") for line in lines if line.startswith(f"{name}=="))


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


if __name__ == "__main__":
    raise SystemExit(main())
