"""`fed-compute serve`: one coordinator process."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fed_compute.cli.console import print_line
from fed_compute.protocol.job import default_job, load_job

if TYPE_CHECKING:
    from fed_compute.coordinator.recovery import RecoveryReport
    from fed_compute.coordinator.wiring import Coordinator

LISTENING = "coordinator listening on "
"""How the line begins that says the address; programs that start a coordinator wait for it."""


def serve(
    job: Annotated[
        Path | None, typer.Option(help="Job file to serve. Without one: the jobs on record, or the job `default`.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", show_default="8000")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for database, models, updates and keys.", show_default="fed-compute-data"),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
) -> None:
    """Start a coordinator and serve until Ctrl-C or SIGTERM.

    Every other setting is an environment variable FED_COMPUTE_…; flags win over them. The operator's key lies in the
    data folder, in the file operator.key.
    """
    # Other commands do without the coordinator's libraries, which take longest to import.
    from fed_compute.coordinator.settings import load_settings
    from fed_compute.coordinator.wiring import open_coordinator
    from fed_compute.server.serve import serve as serve_coordinator

    settings = load_settings(host=host, port=port, data_dir=data_dir, log_level=log_level)
    spec = None if job is None else load_job(job)  # read before anything is touched
    coordinator = open_coordinator(settings)
    try:
        if spec is not None or not coordinator.jobs.all():
            coordinator.jobs.create(spec or default_job())
        serve_coordinator(coordinator, on_ready=lambda url: _announce(url, coordinator))
    finally:
        coordinator.close()


def _announce(url: str, coordinator: "Coordinator") -> None:
    print_line(f"{LISTENING}{url}")
    print_line(f"  data and operator.key in {coordinator.settings.data_dir.resolve()}")
    report = coordinator.recovery.report
    if report is not None and report.found_anything:
        print_line(f"  taken up: {taken_up(report)}")
    print_line(f"  join with: fed-compute join {url}")


def taken_up(report: "RecoveryReport") -> str:
    """Say what the last process left, without what is zero."""
    parts = (
        (report.rounds_collecting, "open round"),
        (report.rounds_to_publish, "closing round"),
        (report.updates_kept, "accepted update"),
        (report.leases_kept, "lease"),
        (report.leases_revived, "revived lease"),
    )
    return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in parts if count)
