"""`fed-compute join`: this machine becomes a client."""

import threading
from pathlib import Path
from typing import Annotated, Literal

import typer

from fed_compute.cli.console import print_line
from fed_compute.cli.watching import ScreenObserver
from fed_compute.client.config import ClientSettings, load_settings
from fed_compute.client.logger import configure_logging
from fed_compute.client.observer import ClientObserver, LogObserver
from fed_compute.errors import ExtraMissing


def join(
    url: Annotated[
        str | None, typer.Argument(help="The coordinator's address.", show_default="http://localhost:8000")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name to register under; made up and kept if not given.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data to train on, such as digits,part=1/5 or npz:mine.npz.", show_default="digits"),
    ] = None,
    invite: Annotated[str | None, typer.Option(help="Invitation, where the coordinator wants one.")] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder for the credential.", show_default="your user's state folder")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default="auto")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads to train with.", show_default="all cores")] = None,
    max_tasks: Annotated[int | None, typer.Option(min=1, help="Stop after so many tasks.")] = None,
    until_finished: Annotated[bool, typer.Option(help="Stop when the job is finished.")] = False,
    logs: Annotated[Literal["text", "json"], typer.Option(help="Lines for people, or JSON for programs.")] = "text",
) -> None:
    """Train for a coordinator with this machine's own data, until Ctrl-C. The data never leaves it.

    Every other setting is an environment variable (CLIENT_…, MAX_RETRIES, RETRY_DELAY, SLEEP_BETWEEN_ROUNDS); arguments
    and options win over them.
    """
    settings = load_settings(
        coordinator_url=url, client_name=name, client_data=data, client_invite=invite,
        client_state_dir=state_dir, client_device=device, client_threads=threads,
    )  # fmt: skip
    configure_logging("json" if logs == "json" else "console")
    observer: ClientObserver = LogObserver() if logs == "json" else ScreenObserver(settings.coordinator_url)
    accepted = _train(settings, observer, max_tasks=max_tasks, until_finished=until_finished)
    if logs == "text":
        print_line(f"done: {accepted} task(s) accepted. Thank you.")


def _train(settings: ClientSettings, observer: ClientObserver, *, max_tasks: int | None, until_finished: bool) -> int:
    """Run a client and return how many tasks were accepted.

    Raises:
        ExtraMissing: if PyTorch is not installed: the command line works without it, training does not.
    """
    try:
        from fed_compute.client.client import stop_on_signals
        from fed_compute.client.wiring import build_client
    except ModuleNotFoundError as error:
        raise ExtraMissing(what="training", extra="client") from error
    stop = threading.Event()
    client = build_client(settings, observer, stop=stop)
    with stop_on_signals(client, stop):
        return client.run(stop=stop, max_tasks=max_tasks, until_finished=until_finished)
