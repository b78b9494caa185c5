"""The operator's calls over HTTP: where the key comes from, and what an answer other than success means."""

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from fed_compute.client.answers import retry_after
from fed_compute.errors import AnswerUnusable, CallRefused, CoordinatorBusy, CoordinatorUnreachable, SettingInvalid
from fed_compute.ids import CLIENT_NAME_RULE, is_client_name
from fed_compute.protocol.messages import PROTOCOL_HEADER, PROTOCOL_VERSION
from fed_compute.protocol.redaction import redact

KEY_VARIABLE = "FED_COMPUTE_OPERATOR_KEY"
PAGE = 100
_ID = re.compile(r"[0-9A-Za-z]{10}", re.ASCII)
_JOB = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)

Url = Annotated[str, typer.Option("--url", help="The coordinator's address.", envvar="COORDINATOR_URL")]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", help=f"File with the operator's key. Else {KEY_VARIABLE}, else DATA_DIR/operator.key."),
]
DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir", help="The coordinator's folder, if it is on this machine.", envvar="FED_COMPUTE_DATA_DIR"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")]
OverlapHours = Annotated[
    float, typer.Option("--overlap-hours", min=0, max=168, help="How long the old key stays good; 0 ends it now.")
]

DEFAULT_URL = "http://localhost:8000"
DEFAULT_DATA_DIR = Path("fed-compute-data")


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """A key and where it came from. The text never shows in a message."""

    text: str
    source: str
    file: Path | None


def find_key(key_file: Path | None, data_dir: Path, *, variable: str | None) -> OperatorKey:
    """Return the operator's key from the file that was named, the environment, or the coordinator's own folder.

    Raises:
        SettingInvalid: if there is none, or it cannot be read: every place that was looked at is named.
    """
    if key_file is None and variable:
        return OperatorKey(variable.strip(), KEY_VARIABLE, None)
    file = key_file or data_dir / "operator.key"
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        tried = "" if key_file else f"; {KEY_VARIABLE} is not set either"
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise SettingInvalid(f"no operator key in {file} ({reason}){tried}; name its file with --key-file") from error
    if not text:
        raise SettingInvalid(f"the file {file} is empty, wanted an operator's key")
    return OperatorKey(text, str(file), file)


def own_key(key_file: Path | None, data_dir: Path) -> OperatorKey:
    """Return the key that the commands' common options and the environment name.

    Raises:
        SettingInvalid: as `find_key`.
    """
    return find_key(key_file, data_dir, variable=os.environ.get(KEY_VARIABLE))


class AdminApi:
    """One coordinator, spoken to as its operator or observer, or without a key as anybody.

    Made for one command: nothing is tried twice.
    """

    def __init__(self, url: str, key: OperatorKey | None, *, transport: httpx2.BaseTransport | None = None) -> None:
        headers = {PROTOCOL_HEADER: str(PROTOCOL_VERSION)}
        if key is not None:
            headers["Authorization"] = f"Bearer {key.text}"
        try:
            self._http = httpx2.Client(base_url=url, headers=headers, timeout=30.0, transport=transport)
        except httpx2.InvalidURL as error:
            raise SettingInvalid(f"--url {url[:200]!r} is not an address: {error}") from error
        self.url = url.rstrip("/")
        self.key = key

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Ask for something. None in the query means not given."""
        return self._call("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, **message: Any) -> dict[str, Any]:
        """Do something. None in the message means not given."""
        return self._call("POST", path, json={name: value for name, value in message.items() if value is not None})

    def post_body(self, path: str, body: bytes, *, content_type: str) -> tuple[bool, dict[str, Any]]:
        """Send a body as it is; return whether that made something new, and the answer."""
        with self._reached():
            answer = self._http.post(path, content=body, headers={"Content-Type": content_type})
        return answer.status_code == httpx2.codes.CREATED, self._understood(answer)

    @contextmanager
    def stream(self, path: str, *, accept: str, **query: Any) -> Iterator[httpx2.Response]:
        """Ask for a file, and give its answer for as long as the block reads it. None in the query means not given."""
        given = {name: value for name, value in query.items() if value is not None}
        plain = {"Accept": accept, "Accept-Encoding": "identity"}
        with self._reached(), self._http.stream("GET", path, params=given, headers=plain) as answer:
            if not answer.is_success:
                answer.read()
                self._understood(answer)
            yield answer

    def pages(self, path: str, field: str, *, limit: int, **query: Any) -> Iterator[dict[str, Any]]:
        """Ask for at most `limit` items, page by page."""
        after: str | None = None
        while limit > 0:
            page = self.get(path, limit=min(limit, PAGE), after=after, **query)
            yield from page[field]
            limit -= len(page[field])
            if (after := page["next"]) is None:
                return

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        with self._reached():
            answer = self._http.request(method, path, **request)
        return self._understood(answer)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx2.RequestError as error:
            raise CoordinatorUnreachable(
                f"no answer from {self.url}: {error or type(error).__name__}; name the coordinator with --url",
                retry_after_seconds=0.0,
            ) from error

    def _understood(self, answer: httpx2.Response) -> dict[str, Any]:
        document = _document(answer, self.url)
        if answer.is_success:
            return document
        raise self._error(answer, document)

    def _error(self, answer: httpx2.Response, document: dict[str, Any]) -> Exception:
        code, detail = str(document.get("code", "none")), str(document.get("detail", "no explanation"))
        facts = {"answered": code, "http_status": answer.status_code}
        if answer.status_code == 401 and self.key is not None:
            return CallRefused(
                f"{self.url} does not know the key of {self.key.source}: it is wrong, expired or revoked, or it is the "
                "key of another coordinator",
                **facts,
            )
        if answer.status_code == 429 or answer.status_code >= 500:
            wait = retry_after(answer.headers) or 0.0
            return CoordinatorBusy(f"{self.url} cannot do this now: {detail}", retry_after_seconds=wait, **facts)
        return CallRefused(detail, **facts)


@contextmanager
def connect(url: str, key_file: Path | None, data_dir: Path) -> Iterator[AdminApi]:
    """Give the coordinator that the commands' common options name, for as long as the block runs.

    Raises:
        SettingInvalid: if there is no key, or the address is none.
    """
    with closing(AdminApi(url, own_key(key_file, data_dir))) as api:
        yield api


@contextmanager
def connect_open(url: str) -> Iterator[AdminApi]:
    """Give the coordinator for what anybody may read, without a key, for as long as the block runs.

    Raises:
        SettingInvalid: if the address is none.
    """
    with closing(AdminApi(url, None)) as api:
        yield api


def id_in_path(text: str) -> str:
    """Return the public id of a key or an invitation, given the id or the whole, whose secret then goes nowhere.

    Raises:
        SettingInvalid: if it is neither.
    """
    name = id_of(text)
    if not _ID.fullmatch(name):
        raise SettingInvalid(f"{redact(text)[:80]!r} is no id, wanted 10 letters and digits as `list` shows them")
    return name


def id_of(text: str) -> str:
    """Return the public middle part of a key or an invitation; any other text as it is."""
    return text.split("_")[1] if text.startswith(("sk_", "inv_")) and text.count("_") == 2 else text


def name_in_path(text: str) -> str:
    """Return a client's name as a segment of a path.

    Raises:
        SettingInvalid: if no client can be called so.
    """
    if not is_client_name(text):
        raise SettingInvalid(f"{redact(text)[:80]!r} is no client's name: {CLIENT_NAME_RULE}")
    return text


def job_in_path(text: str) -> str:
    """Return a job's name as a segment of a path.

    Raises:
        SettingInvalid: if no job can be called so.
    """
    if not _JOB.fullmatch(text):
        raise SettingInvalid(f"{redact(text)[:80]!r} is no job's name; `fed-compute job list` shows them")
    return text


def _document(answer: httpx2.Response, url: str) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError as error:
        raise AnswerUnusable(
            f"the answer of {url} with status {answer.status_code} is no JSON; is this a fed-compute coordinator?",
            retry_after_seconds=0.0,
        ) from error
    return document if isinstance(document, dict) else {}
