"""`fed-compute doctor`: the command itself."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fed_compute.cli.console import out, print_json, print_line
from fed_compute.cli.doctor.judgements import Finding, Level
from fed_compute.client.answers import printable
from fed_compute.clock import SystemClock

_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.BAD: "bold red"}


def doctor(
    url: Annotated[
        str | None, typer.Option(help="The coordinator to join. Without it: can this machine be one?")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="File with a client's key.", show_default="the key that join would use")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data to train on, as for join.", show_default="CLIENT_DATA or digits")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder that join is given.", show_default="your user's state folder")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder that serve is given.", show_default="fed-compute-data")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address that serve is given.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port that serve is given.", show_default="8000")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check this machine, say what is wrong, and what to do about it.

    Without --url: can it serve? With --url: can it join that coordinator? Nothing is changed, nothing is registered, no
    task is taken. Exit code 1 if something is bad.
    """
    clock = SystemClock()
    if url is None:
        from fed_compute.cli.doctor import serving  # loads the coordinator's libraries

        findings = list(serving.look(data_dir=data_dir, host=host, port=port, clock=clock))
    else:
        from fed_compute.cli.doctor import joining

        findings = list(joining.look(url, key_file=key_file, data=data, state_dir=state_dir, clock=clock))
    if as_json:
        print_json(_document(findings, url))
    else:
        _show(findings)
    if _is_bad(findings):
        raise typer.Exit(1)


def _is_bad(findings: Iterable[Finding]) -> bool:
    return any(one.level is Level.BAD for one in findings)


def _document(findings: list[Finding], url: str | None) -> dict[str, object]:
    return {
        "well": not _is_bad(findings),
        "to": "serve" if url is None else "join",
        "url": url,
        "findings": [
            {"check": one.check, "level": one.level, "found": printable(one.found), "advice": one.advice}
            for one in findings
        ],
    }


def _show(findings: list[Finding]) -> None:
    table = Table("check", "", "found", box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    for one in findings:
        found = Text(printable(one.found))
        if one.level is not Level.OK:
            found.append(f"\n→ {one.advice}", "italic")
        table.add_row(one.check, Text(one.level.value, _STYLES[one.level]), found)
    out.print(table, soft_wrap=False)
    num_bad = sum(one.level is Level.BAD for one in findings)
    print_line(f"{num_bad} thing(s) must be mended" if num_bad else "this machine is fit")
