"""`fed-compute`: every command by name, and what its errors look like."""

import sys
from importlib.metadata import version
from typing import Annotated

import structlog
import typer

from fed_compute.cli.backup import backup, restore
from fed_compute.cli.client import app as client_app
from fed_compute.cli.console import complain, print_line
from fed_compute.cli.control import ASKED_EXIT_CODES, finish, pause, resume
from fed_compute.cli.demo.command import demo
from fed_compute.cli.doctor.command import doctor
from fed_compute.cli.events import events
from fed_compute.cli.exit_codes import FAILED, INTERRUPTED, exit_code, in_short
from fed_compute.cli.invite import app as invite_app
from fed_compute.cli.job import app as job_app
from fed_compute.cli.join import join
from fed_compute.cli.key import app as key_app
from fed_compute.cli.leaderboard import leaderboard
from fed_compute.cli.limits import limits
from fed_compute.cli.menu import dress
from fed_compute.cli.model import app as model_app
from fed_compute.cli.round import app as round_app
from fed_compute.cli.sent import sent
from fed_compute.cli.serve import serve
from fed_compute.cli.simulate import simulate
from fed_compute.cli.status import STATUS_EXIT_CODES, status
from fed_compute.cli.sweep import WithSweep
from fed_compute.cli.verify import verify
from fed_compute.errors import FedComputeError

app = typer.Typer(
    name="fed-compute",
    help="Open federated learning on volunteer and edge machines. Data stays home; only weight updates travel.",
    epilog=f"Start with `fed-compute demo`.\n\nExit codes: {in_short()}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print_line(f"fed-compute {version('fed-compute')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options of every command."""


app.command()(demo)
app.command(cls=WithSweep)(simulate)
app.command()(serve)
app.command()(join)
app.command()(limits)
app.command(epilog=STATUS_EXIT_CODES)(status)
app.command(epilog=ASKED_EXIT_CODES)(pause)
app.command(epilog=ASKED_EXIT_CODES)(resume)
app.command(epilog=ASKED_EXIT_CODES)(finish)
app.command()(sent)
app.command()(verify)
app.command()(backup)
app.command()(restore)
app.command()(doctor)
app.command()(events)
app.command()(leaderboard)
app.add_typer(job_app, name="job")
app.add_typer(round_app, name="round")
app.add_typer(model_app, name="model")
app.add_typer(key_app, name="key")
app.add_typer(invite_app, name="invite")
app.add_typer(client_app, name="client")
dress(app)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code. An error becomes one line on standard error."""
    try:
        app(args=arguments, prog_name="fed-compute")
    except SystemExit as end:  # how typer says that it is done
        return end.code if isinstance(end.code, int) else FAILED if end.code else 0
    except FedComputeError as error:
        complain(error.message)
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        structlog.get_logger(__name__).exception("command_failed")
        complain(f"{type(error).__name__}: {error}; this is a fault of fed-compute, the lines above say where")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
