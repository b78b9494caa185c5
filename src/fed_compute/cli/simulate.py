"""`fed-compute simulate`: thousands of virtual clients around the real coordinator."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fed_compute.cli.console import err, print_json, print_line
from fed_compute.cli.sweep import run_sweep
from fed_compute.errors import ExtraMissing, SettingInvalid, SweepInvalid
from fed_compute.protocol.job import default_job, load_job

if TYPE_CHECKING:
    from fed_compute.simulator import Report
    from fed_compute.simulator.history import RoundRow

_NEEDED = ("torch", "sklearn", "tomli_w")


_Behavior = Annotated[str, typer.Option(help="Fleet: stable, volunteer, hostile, mobile, or a fleet file.")]
_Split = Annotated[
    str, typer.Option(help="Who has what: iid, dirichlet:0.3, shards:2, quantity:0.5, feature:0.5 or user.")
]
_SamplesPerClient = Annotated[
    int | None,
    typer.Option(help="Draw so many samples for each client, with replacement.", show_default="share the data out"),
]
_MeasureEvery = Annotated[
    int, typer.Option(help="Rounds from one measurement on held-out samples to the next; the last model always is.")
]
_Plan = Annotated[
    str | None,
    typer.Option(help="Training path, such as stacked:10; auto measures.", show_default="follows from the model"),
]
_Sweep = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUES…", help="Try every combination, as lr=0.01,0.1 rule=fedavg,robust."),
]
_AtOnce = Annotated[
    int | None, typer.Option(help="Simulations of a sweep at the same time.", show_default="as many as there are cores")
]
_Out = Annotated[
    Path | None,
    typer.Option(help="Folder for the report; made if missing.", show_default="simulation-report, or sweep-report"),
]
_Engine = Annotated[str, typer.Option(help="Where clients train: local, or ray, a Ray cluster. Same bytes on both.")]
_Address = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster: auto, host:port or ray://host:port.", show_default="RAY_ADDRESS, or this machine alone"
    ),
]
_Workers = Annotated[
    int | None,
    typer.Option(help="Processes that train. It changes no byte.", show_default="one on each processor"),
]
_ShowSplit = Annotated[Path | None, typer.Option(metavar="PNG", help="Only draw who has what; train nothing.")]


class _OnRound(Protocol):
    def __call__(self, row: "RoundRow") -> None: ...


def simulate(
    job: Annotated[Path | None, typer.Argument(help="Job file. Without one: the job `default`, digits.")] = None,
    clients: Annotated[int, typer.Option("--clients", "-n", help="Virtual clients, from 1.")] = 100,
    data: Annotated[str, typer.Option(help="Data to share out: SOURCE[:PATH][,option=value…].")] = "digits",
    behavior: _Behavior = "stable",
    split: _Split = "iid",
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn; it replaces the job's.")] = 0,
    rounds: Annotated[int | None, typer.Option(help="Rounds to train.", show_default="the job's")] = None,
    samples_per_client: _SamplesPerClient = None,
    measure_every: _MeasureEvery = 1,
    plan: _Plan = None,
    engine: _Engine = "local",
    address: _Address = None,
    workers: _Workers = None,
    sweep: _Sweep = None,
    at_once: _AtOnce = None,
    out: _Out = None,
    show_split: _ShowSplit = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
) -> None:
    """Train a job with virtual clients, in virtual time, and write a report.

    The coordinator is the real one: rounds, leases, checks, aggregation, journal. The clients really train. The same
    seed gives the same model, byte for byte. The report is one HTML page with plots, the rounds as CSV, the job and
    fleet as they were used, and the model.

    With --sweep it simulates every combination of the values, side by side, and compares them: a table here, and a
    folder with an overview, a picture, CSV, and each report. Keys are those of the job file (training.lr, or lr where
    only one ends so), epochs, rounds, clients_per_round, and clients, data, behavior, split, samples_per_client, plan,
    seed, attack, attackers. Rows that differ only in their seed become one, with mean and spread.
    """
    _require_libraries()
    spec = default_job() if job is None else load_job(job)  # read before torch is loaded
    from fed_compute.simulator import simulate as run
    from fed_compute.simulator.population import load_fleet
    from fed_compute.simulator.report.figure import draw_split

    fleet = load_fleet(behavior)
    if show_split is not None:
        draw_split(data, show_split, clients=clients, split=split, seed=seed, samples_per_client=samples_per_client)
        return print_line(f"who has what: {show_split}")
    given: dict[str, Any] = {"clients": clients, "data": data, "behavior": fleet, "split": split, "seed": seed}
    given |= {"rounds": rounds, "samples_per_client": samples_per_client, "plan": plan, "measure_every": measure_every}
    if sweep:
        _refuse_other_places(engine, address, workers)
        return run_sweep(sweep, at_once=at_once, folder=out or Path("sweep-report"), as_json=as_json, job=spec, **given)
    folder = _folder(out or Path("simulation-report"))
    with _progress(rounds or spec.rounds.total, quiet=as_json) as on_round:
        report = run(spec, processes=workers, engine=engine, address=address, on_round=on_round, **given)
    report.save(folder)
    if as_json:
        print_json({**report.summary(), "report": str(folder), "again": report.setup.command(folder)})
    else:
        _tell(report, folder)


def _refuse_other_places(engine: str, address: str | None, workers: int | None) -> None:
    if engine != "local" or address is not None or workers is not None:
        raise SweepInvalid(
            "a sweep trains each simulation in a process of this machine: leave out --engine, --address and --workers; "
            "--at-once says how many run side by side"
        )


def _require_libraries() -> None:
    for library in _NEEDED:
        if find_spec(library) is None:
            raise ExtraMissing(what=f"the simulator ({library} is not there)", extra="simulator")


def _folder(path: Path) -> Path:
    """Refuse a place where no report can be, before any training. Nothing is made yet."""
    there = next(one for one in (path, *path.absolute().parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise SettingInvalid(f"--out {path} cannot be: {there} is no folder that can be written to; name another one")
    return path


@contextmanager
def _progress(rounds: int, *, quiet: bool) -> Iterator[_OnRound]:
    """While the block runs, show how far the rounds are and how good the model is, on standard error."""
    columns = (
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("[bold]{task.fields[quality]}"),
        TextColumn("[dim]{task.fields[fleet]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True) as progress:
        task = progress.add_task("rounds", total=rounds, quality="", fleet="letting the clients in")

        def on_round(row: "RoundRow") -> None:
            fleet = f"{row.num_updates} updates, {row.num_vanished} vanished, {row.num_refused} refused"
            progress.update(task, advance=row.state == "closed", fleet=fleet)
            if row.loss is not None:
                quality = f"loss {row.loss:.4g}" if row.accuracy is None else f"accuracy {row.accuracy:.1%}"
                progress.update(task, quality=quality)

        yield on_round


def _tell(report: "Report", folder: Path) -> None:
    from fed_compute.simulator.report.page import percent, seconds

    summary = report.summary()
    reached = f"loss {report.loss:.4g}" if report.accuracy is None else f"accuracy {report.accuracy:.1%}"
    took = seconds(summary["virtual_seconds"])
    print_line(f"{reached} after {summary['rounds_closed']} rounds, {took} of virtual time")
    if (measured := report.measured) is not None:
        kind, write = ("loss", "{:.4g}".format) if measured.federated_accuracy is None else ("accuracy", percent)
        mean, low, high = (write(getattr(measured, f"federated_{kind}{end}")) for end in ("", "_p10", "_p90"))
        print_line(
            f"on {measured.federated_clients} clients' own data after round {measured.round}: {kind} {mean}, "
            f"{low} to {high} for the middle 80 %"
        )
    if report.holdings.is_drawn and report.setup.samples_per_client is None:
        print_line(
            f"too few samples to share out among {summary['clients']} clients: each drew its own, with replacement"
        )
    print_line(
        f"{summary['updates']} updates of {summary['leases']} leases counted; {summary['vanished']} vanished, "
        f"{summary['late']} late, {summary['stopped']} stopped, {sum(report.refusals.values())} refused"
    )
    print_line(f"model sha256 {summary['model_digest']}")
    print_line(f"report {folder / 'report.html'}")
    print_line(f"again: {report.setup.command(folder)}")
