"""A coordinator's journal from its live feed, entry by entry, over connections that break."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from fed_compute.client.answers import error_of
from fed_compute.clock import Clock
from fed_compute.errors import AnswerUnusable, CoordinatorUnreachable, NotNow, SettingInvalid
from fed_compute.protocol.messages import PROTOCOL_HEADER, PROTOCOL_VERSION

RECONNECT_SECONDS = 1.0
_TIMEOUT = httpx2.Timeout(10.0, read=45.0)  # the feed sends a sign of life every 15 s

Entry = dict[str, Any]


class EventFeed:
    """Reads entries from where they were asked for, each once and in order."""

    def __init__(self, url: str, clock: Clock, *, transport: httpx2.BaseTransport | None = None) -> None:
        headers = {PROTOCOL_HEADER: str(PROTOCOL_VERSION), "Accept": "text/event-stream"}
        try:
            self._http = httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport)
        except httpx2.InvalidURL as error:
            raise SettingInvalid(f"--url {url[:200]!r} is not an address: {error}") from error
        self._clock = clock
        self._url = url.rstrip("/")
        self._last_id: str | None = None

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def entries(self, *, follow: bool, **query: Any) -> Iterator[Entry]:
        """Yield entries; None in the query means not given. With `follow` for ever: a broken connection is made anew.

        Whatever answered once is waited for; what does not answer the first time is not.

        Raises:
            CoordinatorUnreachable, CoordinatorBusy: if nobody answers, or not now.
            CallRefused, ClientMustAct: if the coordinator refuses, such as a job that does not exist.
            AnswerUnusable: if what answers is no feed of a coordinator.
        """
        given = {name: value for name, value in query.items() if value is not None} | {"follow": follow}
        known = False
        while True:
            try:
                with self._connected(given) as answer:
                    known = True
                    yield from self._read(answer)
                if not follow:
                    return
                pause = RECONNECT_SECONDS
            except NotNow as error:
                if not (follow and known) or isinstance(error, AnswerUnusable):
                    raise
                pause = max(RECONNECT_SECONDS, error.retry_after_seconds)
            self._clock.sleep(pause)

    @contextmanager
    def _connected(self, query: dict[str, Any]) -> Iterator[httpx2.Response]:
        headers = {} if self._last_id is None else {"Last-Event-ID": self._last_id}
        try:
            with self._http.stream("GET", "/events", params=query, headers=headers) as answer:
                if not answer.is_success:
                    raise error_of(answer.status_code, answer.headers, answer.read())
                yield answer
        except httpx2.RequestError as error:
            raise CoordinatorUnreachable(
                f"no answer from {self._url}: {error or type(error).__name__}; name the coordinator with --url",
                retry_after_seconds=0.0,
            ) from error

    def _read(self, answer: httpx2.Response) -> Iterator[Entry]:
        """Yield what has come whole; each event ends with an empty line."""
        coming: dict[str, str] = {}
        for line in answer.iter_lines():
            field, _, value = line.partition(":")
            coming[field] = value.strip()
            if not line and "data" in coming:
                self._last_id = coming.get("id", self._last_id)
                yield self._entry(coming["data"])
            if not line:
                coming = {}

    def _entry(self, text: str) -> Entry:
        try:
            entry = json.loads(text)
        except ValueError as error:
            raise self._no_feed() from error
        if not isinstance(entry, dict):
            raise self._no_feed()
        return entry

    def _no_feed(self) -> AnswerUnusable:
        return AnswerUnusable(
            f"what {self._url} sends are no events; is this a fed-compute coordinator?", retry_after_seconds=0.0
        )
