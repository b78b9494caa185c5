"""`fed-compute backup` and `restore`: a whole data folder in one file, and back."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from fed_compute.cli.console import err, out, print_json, print_line
from fed_compute.errors import SettingInvalid

Folder = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The coordinator's data folder.", show_default="fed-compute-data"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist yet.")],
    data_dir: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Write a coordinator's whole data folder into one file, also while the coordinator works.

    The file is a tar. It holds the folder's keys and every update, so it is readable by its owner only: keep it so.
    """
    from fed_compute.coordinator.backup import write_backup

    folder = _own_folder(data_dir)
    with _progress("backup") as on_progress:
        made = write_backup(folder, file, now=time.time(), on_progress=on_progress)
    if as_json:
        print_json(
            {"file": str(file), "made_at": made.made_at, "num_blobs": made.num_blobs, "num_bytes": made.num_bytes}
        )
    else:
        print_line(
            f"{file}: records, keys, and {made.num_blobs:,} files of models and updates; {made.num_bytes / 1e6:,.1f} MB"
        )
        print_line(f"bring it back with: fed-compute restore {file} --data-dir FOLDER")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `fed-compute backup` wrote.")],
    data_dir: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Make a data folder of a backup, check every promise on it, and put it in place if they all hold.

    The folder must be empty or not exist. Exit code 1 if a promise is broken; then nothing is left behind.
    """
    from fed_compute.coordinator.backup import restore_backup

    folder = _own_folder(data_dir)
    with _progress("restore") as on_progress:
        report = restore_backup(file, folder, on_progress=on_progress)
    if as_json:
        print_json({"data_dir": str(folder), "clean": not report.breaches, "breaches": list(report.breaches)})
    elif not report.breaches:
        print_line(f"{folder}: every promise holds; start it with: fed-compute serve --data-dir {folder}")
    else:
        out.print(f"[bold red]NOT RESTORED[/] {len(report.breaches)} promises are broken in {file}:")
        for breach in report.breaches:
            out.print(f"  {breach}", markup=False)
    if report.breaches:
        raise typer.Exit(1)


def _own_folder(data_dir: Path | None) -> Path:
    """Return the data folder.

    Raises:
        SettingInvalid: if records or blobs lie elsewhere: their own tools back them up.
    """
    from fed_compute.coordinator.settings import load_settings

    settings = load_settings(data_dir=data_dir)
    for name, found in (
        ("FED_COMPUTE_DATABASE_URL", settings.database_url),
        ("FED_COMPUTE_BLOB_URL", settings.blob_url),
    ):
        if found is not None:
            raise SettingInvalid(
                f"{name} is set, so not all lies in the data folder; back up the database with pg_dump first and the "
                "object store with its own tools after it (blobs never change)"
            )
    return settings.data_dir


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
