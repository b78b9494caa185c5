"""One connection of a client: uvicorn's, which bounds neither the length of a request's head nor its time.

Here both are bounded, and what the parser refuses is told as a problem document like everything else.
"""

import asyncio
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from fed_compute.errors import FedComputeError, HeadersStalled, HeadersTooLarge, RequestMalformed
from fed_compute.server.logs import SPOKEN
from fed_compute.server.problems import problem_response

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES = 64 << 10
"""The longest head of a request: its line and its header fields."""

MAX_HEAD_FIELDS = 100
HEAD_SECONDS = 30.0
"""How long the head of a request may take, and how long a new connection may be silent."""


class GuardedProtocol(HttpToolsProtocol):
    """Reads requests of one connection, and hangs up on those that are none."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_head = True
        self._head_bytes = self._head_fields = 0
        self._heads_begun = 0
        self._deaf = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what waits."""
        self._end_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came. A head that does not end is refused when it is too long."""
        if self._deaf:
            return
        begun = self._heads_begun
        super().data_received(data)
        if self._in_head and begun == self._heads_begun:  # nothing of this can have been a body
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_too_large())

    def on_message_begin(self) -> None:
        """Begin to read a head."""
        super().on_message_begin()
        self._in_head = True
        self._heads_begun += 1
        self._head_bytes = self._head_fields = 0
        self._wait_for_head()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request's line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field."""
        self._head_fields += 1
        self._count(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request over, if it is one of HTTP/1.0 or of HTTP/1.1 with the one `Host` that this needs."""
        version, hosts = self.parser.get_http_version(), sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.0", "1.1") or hosts > 1 or (hosts == 0 and version == "1.1"):
            raise RequestMalformed  # the parser stops, and `send_400_response` tells
        self._in_head = False
        self._end_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser could not read; `msg` is uvicorn's and says nothing of why.

        A whole request that is being answered gets its answer: only what came after it was wrong.
        """
        if (cycle := self._answering()) is not None and not cycle.more_body:
            cycle.keep_alive = False
            self._deaf = True
        else:
            self._refuse(_too_large() if self._is_too_large() else RequestMalformed())

    def _count(self, num_bytes: int) -> None:
        self._head_bytes += num_bytes
        if self._is_too_large():
            raise _too_large()  # the parser stops, and `send_400_response` tells

    def _is_too_large(self) -> bool:
        return self._head_bytes > MAX_HEAD_BYTES or self._head_fields > MAX_HEAD_FIELDS

    def _refuse(self, error: FedComputeError) -> None:
        """Answer with a problem, unless an answer has begun, and hang up."""
        self._deaf = True
        self._end_waiting()
        cycle = self._answering()
        log.info("request_unread", code=error.code)
        if cycle is None or not cycle.response_started:
            response = problem_response(error)
            lines = [STATUS_LINE[response.status_code]]
            for name, value in (*response.raw_headers, SPOKEN, (b"connection", b"close")):
                lines.append(name + b": " + value + b"\r\n")
            self.transport.write(b"".join([*lines, b"\r\n", bytes(response.body)]))
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _answering(self) -> RequestResponseCycle | None:
        """Return the request that is being answered, if there is one."""
        cycle: RequestResponseCycle | None = self.cycle
        return None if cycle is None or cycle.response_complete else cycle

    def _wait_for_head(self) -> None:
        self._end_waiting()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _end_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        if self._heads_begun:
            self._refuse(HeadersStalled(seconds=HEAD_SECONDS))
        else:
            self.transport.close()  # nobody asked for anything


def _too_large() -> HeadersTooLarge:
    return HeadersTooLarge(max_bytes=MAX_HEAD_BYTES, max_fields=MAX_HEAD_FIELDS)
