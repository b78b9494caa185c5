"""One HTTP request on its way through the real application, in one process and one thread."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import pytest
from starlette.types import ASGIApp


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sends. `content-length` is that of the body; it need not arrive whole."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def scope(self) -> dict[str, Any]:
        """Return the request as ASGI tells it."""
        headers = {"host": "coordinator", **self.headers}
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            headers["content-length"] = str(len(self.body))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},  # 2.4: an answer does not listen for a hang-up
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("10.0.0.1", 4000),
            "server": ("coordinator", 80),
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What the coordinator says."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one if it is none."""
        with suppress(ValueError):
            if isinstance(found := json.loads(self.body), dict):
                return found
        return {}

    @property
    def code(self) -> str:
        """The stable code of a refusal, empty if it is none."""
        return str(self.document.get("code", "")) if self.status >= 400 else ""


class Exchange:
    """A request that the server works on whenever a piece of its body comes. Others may come in between."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: ASGIApp, request: Request) -> None:
        self._loop = loop
        self._messages: deque[dict[str, Any]] = deque()
        self._sent: list[dict[str, Any]] = []
        self._arrival: asyncio.Future[None] | None = None
        self._hunger: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._call(app, request))

    @property
    def answer(self) -> Answer | None:
        """The whole answer, None as long as there is none."""
        if not self._task.done() or not self._sent:
            return None
        headers = {name.decode(): value.decode() for name, value in self._sent[0]["headers"]}
        return Answer(self._sent[0]["status"], headers, b"".join(part.get("body", b"") for part in self._sent[1:]))

    def feed(self, piece: bytes, *, is_last: bool) -> None:
        """Bring a piece of the body, and let the server go on until it has answered or wants more.

        Raises:
            PowerCut: if the machine stops meanwhile.
        """
        self._push({"type": "http.request", "body": piece, "more_body": not is_last})

    def cut(self) -> None:
        """Hang up in the middle of the body."""
        self._push({"type": "http.disconnect"})

    def abandon(self) -> None:
        """End the work because the process has ended."""
        self._task.cancel()
        with suppress(BaseException):
            self._loop.run_until_complete(self._task)

    def _push(self, message: dict[str, Any]) -> None:
        if self._task.done():
            return  # answered before the whole body had come
        self._messages.append(message)
        self._hunger = self._loop.create_future()
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        self._loop.run_until_complete(asyncio.wait({self._task, self._hunger}, return_when=asyncio.FIRST_COMPLETED))
        if self._task.done():
            self._task.result()

    async def _call(self, app: ASGIApp, request: Request) -> None:
        async def send(message: Any) -> None:
            self._sent.append(dict(message))

        await app(request.scope(), self._receive, send)

    async def _receive(self) -> dict[str, Any]:
        if not self._messages:
            self._arrival = self._loop.create_future()
            if not self._hunger.done():
                self._hunger.set_result(None)
            await self._arrival
        return self._messages.popleft()


async def _at_once(function: Any, *arguments: Any, **_: Any) -> Any:
    return function(*arguments)


def without_threads(patch: pytest.MonkeyPatch) -> None:
    """Let the server's plain functions run where they are called: one thread, one order of things."""
    patch.setattr(anyio.to_thread, "run_sync", _at_once)
