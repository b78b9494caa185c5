"""One bar for each kind of fault, and a line for each batch, for whoever waits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bars:
    """Bars on standard error. Without a terminal only the lines are written."""

    def __init__(self, progress: Progress, wanted: Mapping[str, int]) -> None:
        self._progress = progress
        self._bars = {name: progress.add_task(name, total=count) for name, count in wanted.items()}

    def move(self, name: str, done: int) -> None:
        """Show how much of one thing is done."""
        self._progress.update(self._bars[name], completed=done)

    def tell(self, line: str) -> None:
        """Write a line above the bars."""
        self._progress.console.print(line, markup=False, highlight=False)


@contextmanager
def bars(wanted: Mapping[str, int]) -> Iterator[Bars]:
    """Show bars for as long as the block runs."""
    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        yield Bars(progress, wanted)
