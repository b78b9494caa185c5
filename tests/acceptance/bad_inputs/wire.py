"""A bare socket that sends anything, and reads what comes back."""

import contextlib
import http.client
import socket
from dataclasses import dataclass

SECONDS = 20.0


@dataclass(frozen=True)
class Reply:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


def exchange(address: tuple[str, int], data: bytes, *, cut: bool = False) -> Reply | None:
    """Send bytes over a connection of their own; return the answer, None if the other side hung up without one.

    With `cut` nobody waits for an answer: the connection is ended as soon as all is sent.
    """
    with socket.create_connection(address, timeout=SECONDS) as line:
        with contextlib.suppress(ConnectionError):  # the server has seen enough; its answer may lie here already
            line.sendall(data)
        if cut:
            line.shutdown(socket.SHUT_RDWR)
            return None
        return _read(line, data.partition(b" ")[0].decode("latin-1"))


def _read(line: socket.socket, method: str) -> Reply | None:
    answer = http.client.HTTPResponse(line, method=method if method in ("HEAD", "CONNECT") else "GET")
    try:
        answer.begin()
        body = answer.read()
    except (http.client.HTTPException, ConnectionError):
        return None
    finally:
        answer.close()
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body)
