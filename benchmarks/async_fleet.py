"""How fast does a fleet of very unequal machines learn, in asynchronous and in synchronous rounds?

60 virtual machines, the slowest 100 times slower than the fastest, a tenth of all tasks never answered, around the
product's coordinator: leases, heartbeats, soft deadlines, validation, folding and journal are its own, the training
is the client's own on real handwritten digits; only time is virtual. 30 leases may be out at once in each case:

    async      a version of every 6 updates, however old the version they started from (FedBuff)
    sync       a round of 23 updates out of 30 leases, over-selection by 1.3; the late ones are cancelled
    sync_all   a round of 30 updates that waits for all; who vanished is replaced

Exits with 1 unless async needed at most a third of the time of both, with every seed.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fed_compute.simulator.fleet import Setting, Trial, run_trial
from fed_compute.simulator.fleet.contest import ASYNC, Outcome, contenders, job_with
from fed_compute.simulator.fleet.picture import draw

AT_WORK, BUFFER_SIZE = 30, 6
CONTENDERS = contenders(at_work=AT_WORK, buffer_size=BUFFER_SIZE)
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> int:
    """Run the contest, show it, write what was asked for, and say whether the claim holds."""
    options = _options()
    setting = Setting()
    started = time.perf_counter()
    outcome = _contest(setting, seeds=options.seeds, workers=options.workers)
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "setting": asdict(setting),
        "at_work": AT_WORK,
        "rounds": {name: rounds.model_dump() for name, rounds in CONTENDERS.items()},
        "claim": "with every seed async needs at most a third of the virtual time of each other to the target",
        "holds": outcome.is_async_everywhere_three_times_faster,
        "found": outcome.to_json(),
    }
    _show(outcome, report)
    if options.docs:
        _write(outcome, report, setting, options.docs / "pictures", seeds=options.seeds)
    return 0 if report["holds"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each (default 1)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default %(default)s)")
    parser.add_argument("--docs", type=Path, metavar="DIR", help="also write picture and numbers into this docs folder")
    return parser.parse_args()


def _contest(setting: Setting, *, seeds: int, workers: int) -> Outcome:
    os.environ |= dict.fromkeys(ONE_THREAD, "1")  # read by the worker processes when they start
    tasks = [(name, seed) for seed in range(seeds) for name in CONTENDERS]
    trials: dict[str, list[Trial]] = {name: [] for name in CONTENDERS}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_run, setting, name, seed) for name, seed in tasks]
        for (name, seed), future in zip(tasks, futures, strict=True):
            trials[name].append(future.result())
            print(f"{name}, seed {seed}: {trials[name][-1].reached_at} s", file=sys.stderr, flush=True)
    return Outcome(trials, setting.longest_seconds)


def _run(setting: Setting, name: str, seed: int) -> Trial:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return run_trial(job_with(CONTENDERS[name]), setting, Path(folder), seed=seed)


def _show(outcome: Outcome, report: dict[str, Any]) -> None:
    console = Console(file=sys.stdout, highlight=False)
    screen = Table(title=f"Virtual time to the target; {report['minutes']} min on {report['machine']}", box=None)
    for heading in ("rounds", "seconds, by seed", "mean", "× async", "versions", "updates", "late", "staleness"):
        screen.add_column(heading, justify="left" if heading == "rounds" else "right")
    for name, found in outcome.trials.items():
        screen.add_row(
            name,
            " ".join(f"{seconds:.0f}" for seconds in outcome.seconds(name)),
            f"{outcome.mean_seconds(name):.0f}",
            "" if name == ASYNC else f"{outcome.times_faster(name):.1f}",
            *(f"{sum(values) / len(found):.0f}" for values in _counts(found)),
            f"{sum(one.mean_staleness for one in found) / len(found):.1f}",
        )
    console.print(screen)
    console.print(f"{'holds' if report['holds'] else 'FAILS'}: {report['claim']}")


def _counts(found: list[Trial] | Any) -> tuple[list[int], ...]:
    return [len(one.points) for one in found], [one.updates for one in found], [one.late for one in found]


def _write(outcome: Outcome, report: dict[str, Any], setting: Setting, pictures: Path, *, seeds: int) -> None:
    pictures.mkdir(exist_ok=True)
    draw(
        outcome,
        pictures / "async.png",
        target=setting.target_accuracy,
        subtitle=f"{setting.num_clients} machines, the slowest {setting.spread:.0f} times slower than the fastest, "
        f"{setting.dropout:.0%} of tasks never answered, {AT_WORK} leases at once; {seeds} seeds",
    )
    (pictures / "async.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
