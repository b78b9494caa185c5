"""`fed-compute join`: this machine becomes a client."""

import gc
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer

from fed_compute.cli import limit_options as limit
from fed_compute.cli.console import print_line
from fed_compute.cli.limits import shown
from fed_compute.cli.watching import ScreenObserver
from fed_compute.client.config import ClientSettings, load_settings
from fed_compute.client.limits import limits_set
from fed_compute.client.logger import configure_logging
from fed_compute.client.observer import ClientObserver, LogObserver
from fed_compute.client.stop_sign import StopSign
from fed_compute.errors import ExtraMissing
from fed_compute.protocol import tracing

Data = Annotated[
    str | None, typer.Option(help="Data to train on, such as digits,part=1/5 or npz:mine.npz.", show_default="digits")
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the credential and the log of what was sent.", show_default="your user's state folder"
    ),
]


def join(
    url: Annotated[
        str | None, typer.Argument(help="The coordinator's address.", show_default="http://localhost:8000")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name to register under; made up and kept if not given.")] = None,
    data: Data = None,
    invite: Annotated[str | None, typer.Option(help="Invitation, where the coordinator wants one.")] = None,
    state_dir: StateDir = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default="auto")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads to train with.", show_default="all cores")] = None,
    max_tasks: Annotated[int | None, typer.Option(min=1, help="Stop after so many tasks.")] = None,
    until_finished: Annotated[bool, typer.Option("--until-finished", help="Stop when the job is finished.")] = False,
    logs: Annotated[Literal["text", "json"], typer.Option(help="Lines for people, or JSON for programs.")] = "text",
    hours: limit.Hours = None,
    ac_power_only: limit.AcPowerOnly = None,
    max_rounds_per_day: limit.MaxRoundsPerDay = None,
    max_training_seconds: limit.MaxTrainingSeconds = None,
    max_local_epochs: limit.MaxLocalEpochs = None,
    max_model_megabytes: limit.MaxModelMegabytes = None,
    jobs: limit.Jobs = None,
    min_cohort: limit.MinCohort = None,
    max_update_norm: limit.MaxUpdateNorm = None,
    share_sample_count: limit.ShareSampleCount = None,
    share_loss: limit.ShareLoss = None,
    keep_updates: limit.KeepUpdates = None,
) -> None:
    """Train for a coordinator with this machine's own data, until Ctrl-C. The data never leaves it.

    Every other setting is an environment variable (CLIENT_…, MAX_RETRIES, RETRY_DELAY, SLEEP_BETWEEN_ROUNDS); arguments
    and options win over them. `fed-compute limits` lists all limits, `fed-compute sent` what left this machine.
    """
    settings = load_settings(
        coordinator_url=url, client_name=name, client_data=data, client_invite=invite,
        client_state_dir=state_dir, client_device=device, client_threads=threads,
        client_hours=hours, client_ac_power_only=ac_power_only, client_max_rounds_per_day=max_rounds_per_day,
        client_max_training_seconds=max_training_seconds, client_max_local_epochs=max_local_epochs,
        client_max_model_megabytes=max_model_megabytes, client_jobs=jobs, client_min_cohort=min_cohort,
        client_max_update_norm=max_update_norm, client_share_sample_count=share_sample_count,
        client_share_loss=share_loss, client_keep_updates=keep_updates,
    )  # fmt: skip
    configure_logging("json" if logs == "json" else "console")
    observer: ClientObserver = LogObserver() if logs == "json" else ScreenObserver(settings.coordinator_url)
    if logs == "text" and (limits := limits_set(settings)):
        print_line(f"your limits: {', '.join(f'{name}={shown(value)}' for name, value in limits.items())}")
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
    gc.freeze()  # nothing of the libraries is ever garbage, and to look through it all takes long at the end
    stop = StopSign()
    with (
        tracing.told_by("fed-compute-client", wanted=settings.client_tracing),
        closing(build_client(settings, observer, stop=stop)) as client,
        stop_on_signals(client, stop),
    ):
        return client.run(stop=stop, max_tasks=max_tasks, until_finished=until_finished)
