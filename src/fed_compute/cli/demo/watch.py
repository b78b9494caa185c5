"""What one sees while a demonstration runs: a live table on a terminal, plain lines elsewhere, nothing for scripts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fed_compute.cli.demo.story import ClientStory, RoundStory, Story

REFRESHES_PER_SECOND = 10
FEWEST_ROUNDS, MOST_CLIENT_LINES = 3, 12
_OTHER_LINES = 10
"""Lines of the live picture that are neither rounds nor clients: headings, bar, gaps, the line below."""

_STYLES = {"closed": "green", "given up": "yellow", "collecting": "cyan", "aggregating": "cyan", "open": "dim"}


Show = Callable[[Story], None]
"""Shows how things stand now; called again and again."""


@contextmanager
def live_screen(console: Console, *, started_at: float, now: Callable[[], float]) -> Iterator[Show]:
    """While the block runs, show a picture that is drawn over itself, for a terminal. Its last state stays."""
    with Live(console=console, refresh_per_second=REFRESHES_PER_SECOND, transient=False) as live:
        yield lambda story: live.update(
            picture(story, started_at=started_at, now=now(), width=console.width, height=console.height)
        )


class LineScreen:
    """One line for each round that has a result, and for each death and return. No control codes."""

    def __init__(self, write: Callable[[str], None], *, started_at: float) -> None:
        self._write = write
        self._started_at = started_at
        self._url = ""
        self._told: set[int] = set()
        self._lives: dict[str, tuple[int, int]] = {}
        self._joined: set[str] = set()

    def show(self, story: Story) -> None:
        """Write what is new."""
        if story.url != self._url:
            self._url = story.url
            self._write(f"coordinator listening on {story.url}")
        for client in story.clients.values():
            self._tell_life(client)
        for round_ in story.rounds.values():
            ended = round_.state == "given up" or (round_.state == "closed" and story.is_settled(round_))
            if ended and round_.round_id not in self._told:
                self._told.add(round_.round_id)
                self._write(round_line(round_, rounds_total=story.rounds_total, started_at=self._started_at))

    def _tell_life(self, client: ClientStory) -> None:
        if client.joined and client.name not in self._joined:
            self._joined.add(client.name)
            self._write(f"{client.name} joined")
        died, came_back = self._lives.get(client.name, (0, 0))
        if client.died > died:
            self._write(f"{client.name} killed")
        if client.came_back > came_back:
            self._write(f"{client.name} is back")
        self._lives[client.name] = (client.died, client.came_back)


def round_line(round_: RoundStory, *, rounds_total: int, started_at: float) -> str:
    """Return one round as one line of text."""
    width = len(str(rounds_total))
    ended = 0.0 if round_.closed_at is None else round_.closed_at - started_at
    return (
        f"round {round_.number:>{width}}/{rounds_total}  {round_.state:<8}  updates {round_.updates}  "
        f"loss {_figure(round_.loss)}  accuracy {_figure(round_.accuracy)}  {ended:5.1f} s"
    )


def picture(story: Story, *, started_at: float, now: float, width: int, height: int) -> RenderableType:
    """Return everything that the live screen shows, as tall as the terminal allows."""
    num_lines = min(len(story.clients), MOST_CLIENT_LINES, max(1, height - _OTHER_LINES - FEWEST_ROUNDS))
    num_rounds = max(FEWEST_ROUNDS, height - _OTHER_LINES - num_lines)
    return Group(
        Text.assemble(("coordinator  ", "bold"), (story.url or "starting", "cyan" if story.url else "dim")),
        Text(),
        _rounds_table(story, num_rounds=num_rounds, started_at=started_at, now=now, width=width),
        Text(),
        _progress(story, width=width),
        Text(),
        _clients_table(story, num_lines=num_lines),
    )


def _rounds_table(story: Story, *, num_rounds: int, started_at: float, now: float, width: int) -> Table:
    bar_cells = min(40, width - 60)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("round", justify="right", no_wrap=True)
    table.add_column("state", width=11, no_wrap=True)
    for title, cells in (("updates", 7), ("loss", 6), ("accuracy", 8)):
        table.add_column(title, justify="right", width=cells, no_wrap=True)
    if bar_cells >= 8:
        table.add_column("", width=bar_cells, no_wrap=True)
    table.add_column("elapsed", justify="right", width=8, no_wrap=True)
    for round_ in list(story.rounds.values())[-num_rounds:]:
        ended = now if round_.closed_at is None else round_.closed_at
        table.add_row(
            str(round_.number),
            Text(round_.state, _STYLES.get(round_.state, "")),
            f"{round_.updates}/{story.target_updates}",
            _figure(round_.loss),
            Text(_figure(round_.accuracy), "bold"),
            *([_accuracy_bar(round_.accuracy, bar_cells)] if bar_cells >= 8 else []),
            f"{ended - started_at:.1f} s",
        )
    return table


def _accuracy_bar(accuracy: float | None, num_cells: int) -> Text:
    """Draw an accuracy from 0 to 1 in eighths of a cell."""
    full, rest = divmod(round((accuracy or 0.0) * num_cells * 8), 8)
    return Text("█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else ""), "green")


def _progress(story: Story, *, width: int) -> Table:
    closed, total = len(story.closed), story.rounds_total
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        Text("rounds", "bold"),
        ProgressBar(total=total, completed=closed, width=max(10, min(60, width - 50))),
        Text(f"{closed} of {total}"),
        Text(_headline(story), "cyan"),
    )
    return grid


def _headline(story: Story) -> str:
    if story.is_finished:
        return "done" if story.is_complete else "measuring the last model"
    joined = sum(client.joined for client in story.clients.values())
    return "" if joined == len(story.clients) else f"{joined} of {len(story.clients)} clients joined"


def _clients_table(story: Story, *, num_lines: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    has_deaths = any(client.died for client in story.clients.values())
    table.add_column("client", no_wrap=True)
    table.add_column("doing", width=26, no_wrap=True)
    for title in ("updates", "samples", "accuracy", *(["killed", "back"] if has_deaths else [])):
        table.add_column(title, justify="right", width=max(6, len(title)), no_wrap=True)
    clients = list(story.clients.values())
    shown = clients if len(clients) <= num_lines else clients[: num_lines - 1]
    for client in shown:
        table.add_row(
            client.name,
            Text(client.doing, _style_of(client)),
            str(client.updates),
            str(client.samples or "–"),
            _figure(client.accuracy),
            *([str(client.died), str(client.came_back)] if has_deaths else []),
        )
    if len(shown) < len(clients):
        table.add_row(Text("…", "dim"), Text(f"and {len(clients) - len(shown)} more", "dim"))
    return table


def _style_of(client: ClientStory) -> str:
    if client.away:
        return "red" if client.restarted_at is None else "yellow"
    return "cyan" if client.doing.startswith(("training", "measuring")) else "" if client.joined else "dim"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
