"""One connection: what is no request, or takes too long to become one, is told and hung up on."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvicorn

from fed_compute.server import connections
from fed_compute.server.connections import MAX_HEAD_BYTES, MAX_HEAD_FIELDS, GuardedProtocol

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, bytes]]
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body, after all of it has come."""
    if scope["type"] == "lifespan":
        return
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    await send({"type": "http.response.body", "body": b"%06d" % length})


def talk(story: Talk) -> bytes:
    """Run a server, let a client tell its story on one connection, and return what it heard."""

    async def run() -> bytes:
        config = uvicorn.Config(application, lifespan="off", log_config=None, http=GuardedProtocol)
        config.load()
        state = uvicorn.server.ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: GuardedProtocol(config, state, {}), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            heard = await asyncio.wait_for(story(reader, writer), 20)
            writer.close()
            return heard

    return asyncio.run(run())


def send_and_listen(data: bytes) -> Talk:
    """Send bytes, and listen until the other side hangs up or has said all."""

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(data)
        return await reader.read()

    return story


def document_of(heard: bytes) -> dict[str, Any]:
    """Return the problem document of an answer, which must be a whole one."""
    head, _, body = heard.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert "content-type: application/problem+json" in lines
    assert f"content-length: {len(body)}" in lines
    assert {"connection: close", "fed-compute-protocol: 1"} <= set(lines)
    document = dict(json.loads(body))
    assert lines[0].split()[1] == str(document["status"])
    return document


def test_a_request_is_answered() -> None:
    heard = talk(send_and_listen(HEAD + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc"))
    assert heard.startswith(b"HTTP/1.1 200 ")
    assert heard.endswith(b"000003")


@pytest.mark.parametrize(
    "data", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", HEAD + b"Host: y\r\n\r\n", b"GET /\r\n\r\n"]
)
def test_what_is_no_request_is_told_so(data: bytes) -> None:
    assert document_of(talk(send_and_listen(data)))["code"] == "malformed_request"


@pytest.mark.parametrize(
    "fields",
    [
        b"a: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"a: b\r\n" * MAX_HEAD_FIELDS + b"\r\n",
    ],
)
def test_a_head_that_is_too_large_is_told_so(fields: bytes) -> None:
    document = document_of(talk(send_and_listen(HEAD + fields)))
    assert (document["code"], document["max_bytes"]) == ("headers_too_large", MAX_HEAD_BYTES)


def test_a_head_without_an_end_is_told_so() -> None:
    """One field may grow and grow: it is never complete, so it is never counted as one."""

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(HEAD + b"a: ")
        for _ in range(5):
            await asyncio.sleep(0.02)
            writer.write(b"x" * (MAX_HEAD_BYTES // 4))
        return await reader.read()

    assert document_of(talk(story))["code"] == "headers_too_large"


def test_a_head_of_the_largest_size_is_taken_and_so_is_the_next_one() -> None:
    """What is counted begins anew with each request, and a body is not a head."""
    fields = b"h: x\r\n" * (MAX_HEAD_FIELDS - 3) + b"Content-Length: 200000\r\n"
    big = HEAD + fields + b"\r\n" + b"b" * 200_000
    last = HEAD + fields + b"Connection: close\r\n\r\n" + b"b" * 200_000
    heard = talk(send_and_listen(big + last))
    assert heard.count(b"HTTP/1.1 200 ") == 2
    assert len(fields) < MAX_HEAD_BYTES


def test_a_request_that_is_being_answered_gets_its_answer_though_nonsense_follows() -> None:
    heard = talk(send_and_listen(HEAD + b"\r\nnonsense\r\n\r\n"))
    assert heard.startswith(b"HTTP/1.1 200 ")
    assert heard.count(b"HTTP/1.1") == 1


def test_a_body_that_turns_into_nonsense_is_refused() -> None:
    heard = talk(send_and_listen(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"))
    assert document_of(heard)["code"] == "malformed_request"


@pytest.mark.parametrize("begun", [b"", b"GET / HT"])
def test_a_head_that_does_not_come_in_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    heard = talk(send_and_listen(begun))
    if begun:
        assert document_of(heard)["code"] == "headers_stalled"
    else:
        assert heard == b""  # nobody asked for anything


def test_a_body_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\na")
        await asyncio.sleep(0.7)
        writer.write(b"b")
        return await reader.read()

    assert talk(story).endswith(b"000002")
