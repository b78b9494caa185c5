"""`fed-compute simulate --sweep`: many simulations side by side, one display, one table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from typer.core import TyperCommand

from fed_compute.cli.console import err, out, print_json, print_line
from fed_compute.cli.exit_codes import FAILED

if TYPE_CHECKING:
    from fed_compute.simulator.sweeps import Sweep
    from fed_compute.simulator.sweeps.design import Run
    from fed_compute.simulator.sweeps.events import Ended, Event, Failed, Tell

OPTION = "--sweep"
_LONGEST_NAME = 48


class WithSweep(TyperCommand):
    """A command whose `--sweep` takes as many KEY=VALUES as stand behind it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; each further word of a sweep gets the option in front of it."""
        return super().parse_args(ctx, list(_spread(args)))


def _spread(words: Sequence[str]) -> Iterator[str]:
    inside = False
    for before, word in zip(["", *words], words, strict=False):
        inside = before == OPTION or (inside and "=" in word and not word.startswith("-"))
        if inside and before != OPTION:
            yield OPTION
        yield word


def run_sweep(words: Sequence[str], *, at_once: int | None, folder: Path, as_json: bool, **given: Any) -> None:
    """Simulate every combination with one display, print the table, and leave with code 1 if a run failed.

    Ctrl-C ends what is not finished; the rest is in the folder, and is shown.
    """
    from fed_compute.simulator.sweeps import SweepInterrupted, sweep
    from fed_compute.simulator.sweeps.grid import parse_words

    try:
        with _display(quiet=as_json) as tell:
            result = sweep(grid=parse_words(words), at_once=at_once, out=folder, tell=tell, **given)
    except SweepInterrupted as stop:
        _show(stop.result, as_json=as_json)
        raise
    _show(result, as_json=as_json)
    if any(outcome.error is not None for outcome in result.outcomes):
        raise typer.Exit(FAILED)


def _show(result: "Sweep", *, as_json: bool) -> None:
    again = result.command(result.folder)
    if as_json:
        return print_json({**result.to_json(), "report": str(result.folder), "again": again})
    if result.outcomes:
        _print_table(result)
    if (missing := len(result.design.runs) - len(result.outcomes)) > 0:
        print_line(f"{missing} of {len(result.design.runs)} simulations are missing: the sweep was interrupted")
    for outcome in result.outcomes:
        if outcome.error is not None:
            print_line(f"failed: {outcome.run.folder}: {outcome.error}")
    print_line(f"report {result.folder / 'sweep.html'}")
    print_line(f"again: {again}")


def _print_table(result: "Sweep") -> None:
    """Print what fits the terminal, or into a file all of it; the best row is bold and green."""
    whole = result.table()
    table = whole.within(out.width) if out.is_terminal else whole
    head, *rows = str(table).splitlines()
    out.print(f"\n[bold]{result.title}[/]\n\n[dim]{head}[/]")
    for place, row in enumerate(rows):
        out.print(row, style="bold green" if place == table.best else None, markup=False)
    if missing := [name for name in whole.head if name not in table.head]:
        out.print(f"[dim]more in sweep.csv: {', '.join(missing)}[/]")
    out.print()


@contextmanager
def _display(*, quiet: bool) -> Iterator["Tell"]:
    """While the block runs, show how far all runs are, and those at work, on standard error."""
    columns = (
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=28),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True) as progress:
        yield _Board(progress).hear


class _Board:
    """One bar for all rounds of all runs, and below it one for each run at work."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._all = progress.add_task("sweep", total=1, note="checking every combination")
        self._runs: dict[int, Run] = {}
        self._bars: dict[int, TaskID] = {}
        self._closed: dict[int, int] = {}
        self._ends: list[Ended | Failed] = []

    def hear(self, event: "Event") -> None:
        """Show one event."""
        from fed_compute.simulator.sweeps.events import Began, Ended, Failed, Planned, RoundEnded

        match event:
            case Planned(runs):
                self._runs = {run.number: run for run in runs}
                self._progress.update(self._all, total=sum(run.job.rounds.total for run in runs))
            case Began(number):
                run, self._closed[number] = self._runs[number], 0
                name = run.folder[:_LONGEST_NAME]
                self._bars[number] = self._progress.add_task("", total=run.job.rounds.total, note=name)
            case RoundEnded(number, row):
                if row.loss is not None and number in self._bars:
                    quality = f"loss {row.loss:.4g}" if row.accuracy is None else f"{row.accuracy:.1%}"
                    name = self._runs[number].folder[:_LONGEST_NAME]
                    self._progress.update(self._bars[number], note=f"{name}  [bold]{quality}")
                self._advance(number, int(row.state == "closed"))
            case Ended() | Failed():
                self._ends.append(event)
                if (bar := self._bars.pop(event.run, None)) is not None:
                    self._advance(event.run, self._runs[event.run].job.rounds.total - self._closed[event.run])
                    self._progress.remove_task(bar)
        self._progress.update(self._all, note=self._note())

    def _advance(self, number: int, rounds: int) -> None:
        self._closed[number] += rounds
        self._progress.update(self._all, advance=rounds)
        if (bar := self._bars.get(number)) is not None:
            self._progress.update(bar, advance=rounds)

    def _note(self) -> str:
        from fed_compute.simulator.sweeps.events import Failed

        failed = sum(isinstance(end, Failed) for end in self._ends)
        told = f"{len(self._ends)} of {len(self._runs)} done"
        return f"{told}, [red]{failed} failed" if failed else told
