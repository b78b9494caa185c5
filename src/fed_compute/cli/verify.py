"""`fed-compute verify`: check a data folder against every promise."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fed_compute.cli.console import out, print_json

if TYPE_CHECKING:
    from fed_compute.coordinator.verify import Report


def verify(
    data_dir: Annotated[Path, typer.Argument(help="The coordinator's data folder.")],
    database_url: Annotated[
        str | None,
        typer.Option(help="Where the records are, if not in the folder.", envvar="FED_COMPUTE_DATABASE_URL"),
    ] = None,
    blob_url: Annotated[
        str | None, typer.Option(help="Where the blobs are, if not in the folder.", envvar="FED_COMPUTE_BLOB_URL")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check every invariant of the stored data and rebuild every model version byte for byte.

    Exit code 1 if one promise is broken. Stop the coordinator first for a picture of one moment.
    """
    from fed_compute.coordinator.verify import verify_data_dir  # loads the coordinator's libraries

    report = verify_data_dir(data_dir, database_url=database_url, blob_url=blob_url)
    if as_json:
        print_json(
            {
                "clean": not report.breaches,
                "checks": [
                    {"name": check.name, "looked_at": check.looked_at, "breaches": list(check.breaches)}
                    for check in report.checks
                ],
            }
        )
    else:
        _show(report, data_dir)
    if report.breaches:
        raise typer.Exit(1)


def _show(report: "Report", data_dir: Path) -> None:
    table = Table("check", "looked at", "result", title=f"{data_dir}", title_justify="left", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for check in report.checks:
        result = "[green]holds[/]" if not check.breaches else f"[bold red]{len(check.breaches)} broken[/]"
        table.add_row(check.name, f"{check.looked_at:,}", result)
    out.print(table)
    for breach in report.breaches:
        out.print(f"  {breach}", markup=False)
    out.print("[bold red]BROKEN[/]" if report.breaches else "[green]clean[/]")
