"""Run the simulated campaign from the command line.

python -m tests.fault.simulate --seeds 1000                 every crash point, then 1 000 histories
python -m tests.fault.simulate --only crashes               the crash points alone
python -m tests.fault.simulate --only histories --first 17 --seeds 1   the one history that failed
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.fault.simulated.campaign import crash_points, histories, scratch_folder
from tests.fault.simulated.story import Story

ItemT = TypeVar("ItemT")

SHOWN_BREACHES = 5


@dataclass(slots=True)
class Tally:
    """What a series of trials came to."""

    name: str
    trials: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, Sequence[str]] = field(default_factory=dict)
    """What was wrong, by trial."""
    seconds: float = 0.0

    def take(self, trial: str, breaches: Sequence[str], counts: Mapping[str, int]) -> None:
        """Take in one trial."""
        self.trials += 1
        self.counts.update(counts)
        if breaches:
            self.failures[trial] = breaches

    @property
    def bound(self) -> float | None:
        """The 95 % upper bound of the rate of failures, 3/n, when none failed."""
        return None if self.failures or not self.trials else min(1.0, 3 / self.trials)

    def lines(self) -> Iterator[str]:
        """Yield the report."""
        for trial, breaches in self.failures.items():
            yield from (f"FAILED {trial}: {breach}" for breach in breaches[:SHOWN_BREACHES])
        if self.counts:
            yield ", ".join(f"{number:,} {name}" for name, number in self.counts.items())
        yield f"{self.trials:,} {self.name} in {self.seconds:.0f} s, {len(self.failures)} failed"
        if self.bound is not None:
            yield f"fewer than {self.bound:.2%} fail (3/n: none of {self.trials:,} failed, 95 % confidence)"

    def document(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        counts, failures = dict(self.counts), {trial: [*breaches] for trial, breaches in self.failures.items()}
        return {
            "name": self.name,
            "trials": self.trials,
            "counts": counts,
            "failures": failures,
            "bound": self.bound,
            "seconds": round(self.seconds, 1),
        }


def main() -> int:
    """Run what the command line asks for; return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["histories", "crashes"])
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--operations", type=int, default=500, help="the length of each history")
    parser.add_argument("--json", type=Path, help="a file for the report")
    arguments = parser.parse_args()
    console, tallies = Console(stderr=True), []
    if arguments.only != "histories":
        tallies.append(_crash_points(console))
    if arguments.only != "crashes":
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        tallies.append(_histories(console, seeds, arguments.operations))
    for tally in tallies:
        sys.stdout.write("".join(f"{line}\n" for line in tally.lines()))
    if arguments.json:
        arguments.json.write_text(json.dumps([tally.document() for tally in tallies], indent=2) + "\n")
    return 1 if any(tally.failures for tally in tallies) else 0


def _crash_points(console: Console) -> Tally:
    began, tally = time.monotonic(), Tally("crash points")
    with scratch_folder() as folder:
        story = Story(folder)
        tally.counts["persistence calls"] = sum(map(len, story.traces))
        for point, breaches in _shown(console, tally, crash_points(story), len(story.crash_points())):
            call = story.traces[point.part][point.call - 1]
            tally.take(f"{point.fault} at {call!r}, {point}", breaches, {str(point.fault): 1})
    tally.seconds = time.monotonic() - began
    return tally


def _histories(console: Console, seeds: Sequence[int], num_operations: int) -> Tally:
    began, tally = time.monotonic(), Tally("histories")
    for history in _shown(console, tally, histories(seeds, num_operations=num_operations), len(seeds)):
        again = f"--only histories --first {history.seed} --seeds 1 --operations {num_operations}"
        tally.take(f"seed {history.seed} (again: {again})", history.breaches, history.counts)
    tally.seconds = time.monotonic() - began
    return tally


def _shown(console: Console, tally: Tally, items: Iterable[ItemT], total: int) -> Iterator[ItemT]:
    """Yield the items, with a bar that tells how many are through and how many failed."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(tally.name, total=total)
        for item in items:
            yield item
            failed = f", {len(tally.failures)} failed" if tally.failures else ""
            progress.update(bar, advance=1, description=f"{tally.name}{failed}")


if __name__ == "__main__":
    sys.exit(main())
