"""The coordinator's journal, read from its live feed on a thread."""

import json
import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx2

from fed_compute.clock import Clock

_TIMEOUT = httpx2.Timeout(10.0, read=30.0)  # the feed sends something every 15 s
_RETRY_SECONDS = 0.5


class Feed:
    """Collects every journal entry from the first one on, over broken connections too."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._entries: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read_on, name="journal-feed", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()  # the thread ends with the connection, and that with the coordinator

    def entries(self, *, wait_seconds: float) -> Iterator[dict[str, Any]]:
        """Yield what has come, after waiting up to `wait_seconds` for the first entry."""
        try:
            yield self._entries.get(timeout=wait_seconds)
            while True:
                yield self._entries.get_nowait()
        except queue.Empty:
            return

    def _read_on(self) -> None:
        seq = 0
        with httpx2.Client(base_url=self._url, timeout=_TIMEOUT, trust_env=False) as http:
            while not self._closed.is_set():
                try:
                    with http.stream("GET", "/events", params={"after": seq}) as answer:
                        answer.raise_for_status()
                        for line in answer.iter_lines():
                            if (entry := entry_of(line)) is not None:
                                seq = entry["seq"]
                                self._entries.put(entry)
                except (httpx2.TransportError, httpx2.HTTPStatusError):
                    self._clock.sleep(_RETRY_SECONDS)


def entry_of(line: str) -> dict[str, Any] | None:
    """Return the journal entry of one line of a server-sent event; None for its other lines."""
    field, _, value = line.partition(":")
    return dict(json.loads(value)) if field == "data" else None
