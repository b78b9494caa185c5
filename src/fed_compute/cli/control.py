"""`fed-compute pause`, `resume`, `finish`: what the owner of this machine asks of the clients that run on it."""

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from fed_compute.cli.console import print_line
from fed_compute.client.config import load_settings
from fed_compute.client.roster import Resident, ask, residents, running
from fed_compute.client.status import Doing
from fed_compute.client.wishes import Wish
from fed_compute.errors import FedComputeError

ASKED_EXIT_CODES = "Exit codes: 0 asked, 2 no such client runs on this machine."
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_SECONDS = 366 * 86_400


def client_names(incomplete: str) -> list[str]:
    """Return the names of this machine's clients that begin so, for the shell."""
    try:
        names = [one.name for one in residents(_folder(None))]
    except FedComputeError:
        return []  # the command itself will say what is wrong
    return [name for name in names if name.startswith(incomplete)]


Name = Annotated[
    str | None,
    typer.Argument(help="Its name.", show_default="every client that runs here", autocompletion=client_names),
]
StateDir = Annotated[
    Path | None, typer.Option(help="Folder that `join` was given.", show_default="your user's state folder")
]

_PAUSES: dict[Doing, str] = {
    "training": "pauses before its next batch; its task is kept for a minute, then given back",
    "measuring": "pauses after the measurement that is running",
    "sending": "sends what is finished, then pauses",
    "waiting": "pauses; a task that is just being handed out goes back",
}
_FINISHES: dict[Doing, str] = {
    "training": "ends when its task is done and answered",
    "measuring": "ends after the measurement that is running",
    "sending": "ends when its update is answered",
}


def duration(text: str) -> float:
    """Read a duration such as 90s, 30m, 2h or 1d; return seconds."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip().lower())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise typer.BadParameter(f"{text[:40]!r} is no duration; wanted a whole number and s, m, h or d, such as 30m")
    return float(seconds)


def pause(
    name: Name = None,
    seconds: Annotated[
        float | None,
        typer.Option("--for", parser=duration, metavar="TIME", help="Go on by itself after this time: 30m, 2h, 1d."),
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Let running clients pause: no more training and no more tasks, until `resume`, also after a restart.

    A training stops before its next batch. Its task is kept for a minute, so that
    a short pause costs nothing; then it is given back, for another machine to do.
    What is finished is still sent.
    """
    until = None if seconds is None else time.time() + seconds
    suffix = "" if until is None else f"; goes on by itself at {time.strftime('%a %H:%M', time.localtime(until))}"
    for resident in running(_folder(state_dir), name):
        ask(resident, Wish("pause", until=until))
        print_line(f"{resident.name} {_PAUSES.get(_doing(resident), 'pauses')}{suffix}")


def resume(name: Name = None, state_dir: StateDir = None) -> None:
    """Let paused clients go on, and take a `finish` back."""
    folder = _folder(state_dir)
    wanted = [one for one in residents(folder) if name in (None, one.name, one.folder.slot)]
    chosen = [one for one in wanted if one.is_running or one.wish_at(time.time()).kind == "pause"]
    for resident in chosen or running(folder, name):
        ask(resident, Wish())
        print_line(f"{resident.name} {'goes on' if resident.is_running else 'will go on at its next start'}")


def finish(name: Name = None, state_dir: StateDir = None) -> None:
    """Let running clients end after the task that they are doing.

    A paused one goes on for that. `resume` takes it back.
    """
    for resident in running(_folder(state_dir), name):
        run = None if resident.status is None else resident.status.run
        ask(resident, Wish("finish", run=run))
        print_line(f"{resident.name} {_FINISHES.get(_doing(resident), 'ends within half a minute')}")


def _folder(state_dir: Path | None) -> Path:
    return load_settings(client_state_dir=state_dir).client_state_dir


def _doing(resident: Resident) -> Doing:
    return "starting" if resident.status is None else resident.status.doing
