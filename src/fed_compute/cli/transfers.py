"""Model files on their way from the coordinator, with a bar if it takes long, and checked when they are here."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from fed_compute.cli.admin_api import AdminApi
from fed_compute.cli.console import err
from fed_compute.errors import AnswerUnusable, DigestMissing, SettingInvalid
from fed_compute.protocol.digests import parse_content_digest
from fed_compute.protocol.messages import SAFETENSORS

_PIECE_BYTES = 1 << 18
_SHOWN_FROM_BYTES = 4 << 20
"""A smaller file is here before a bar could be read."""


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A model file that arrived whole: its version like `v3`, its SHA-256 and its size."""

    version: str
    digest: str
    num_bytes: int


def fetch_model(api: AdminApi, job: str | None, version: str, file: Path) -> FetchedModel:
    """Write a model version to a file, whose bytes hash to what the coordinator says; None is the default job.

    Raises:
        SettingInvalid: if `version` is not like `v3` or `latest`.
        CallRefused: if there is no such job or version.
        CoordinatorUnreachable, AnswerUnusable: if the coordinator does not answer, or not as one, or if other bytes
            arrived than were announced.
    """
    found = hashlib.sha256()
    with api.stream(f"/model/{version_in_path(version)}", accept=SAFETENSORS, job=job) as answer:
        try:
            wanted = parse_content_digest(answer.headers.get("Repr-Digest"))
            named = answer.headers["Fed-Compute-Version"]
        except (DigestMissing, KeyError) as error:
            raise AnswerUnusable(
                f"{api.url} does not say which model it sends; is this a fed-compute coordinator?",
                retry_after_seconds=0.0,
            ) from error
        with _bar(answer, named) as advance, file.open("wb") as stream:
            for piece in answer.iter_raw(_PIECE_BYTES):
                found.update(piece)
                stream.write(piece)
                advance(len(piece))
    if found.hexdigest() != wanted:
        raise AnswerUnusable(
            f"{named} hashes to {found.hexdigest()} here and to {wanted} there; fetch it again", retry_after_seconds=0.0
        )
    return FetchedModel(named, wanted, file.stat().st_size)


def version_in_path(text: str) -> str:
    """Return a version as a segment of a path.

    Raises:
        SettingInvalid: if no version is written so.
    """
    digits = text.removeprefix("v")
    if text != "latest" and not (text.startswith("v") and digits.isascii() and digits.isdigit() and digits[0] != "0"):
        raise SettingInvalid(f"{text[:80]!r} is no version, wanted one like v3, or latest")
    return text


@contextmanager
def _bar(answer: httpx2.Response, text: str) -> Iterator[Callable[[int], None]]:
    """Give a function that moves the bar on by so many bytes."""
    num_bytes = int(answer.headers.get("Content-Length", 0))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    is_quick = num_bytes < _SHOWN_FROM_BYTES
    with Progress(*columns, console=err, transient=True, disable=is_quick or not err.is_terminal) as progress:
        task = progress.add_task(text, total=num_bytes)
        yield lambda count: progress.advance(task, count)
