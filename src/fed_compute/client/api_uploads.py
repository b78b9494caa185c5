"""Sending updates: short ones at once, long ones in pieces, each from where the coordinator has the end of the last."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from fed_compute.client.answers import printable
from fed_compute.client.api_calls import Calls, Reply, unusable
from fed_compute.errors import CallRefused, ClientMustAct, CoordinatorUnreachable, NotNow
from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.messages import UpdateAnswer

BLOCK_BYTES = 64 << 10
_PIECE = "application/partial-upload"
_AnswerT = TypeVar("_AnswerT")
Sent = Callable[[int], None]


class Upload:
    """The way of one body to `path`. Where one broke off, also of an earlier process, the next one goes on."""

    def __init__(self, calls: Calls, path: str, body: bytes, *, on_sent: Sent) -> None:
        self._calls = calls
        self._path = path
        self._body = memoryview(body)
        self._digest = format_content_digest(sha256_hex(body))
        self._on_sent = on_sent
        self._arrived = 0

    def whole(self, content_type: str) -> UpdateAnswer:
        """`PUT` it, one try."""
        headers = {"Content-Type": content_type, "Content-Digest": self._digest}
        return self._send("PUT", 0, len(self._body), headers).read(UpdateAnswer)

    def in_pieces(self, piece_bytes: int) -> UpdateAnswer:
        """`HEAD`, and as many `PATCH` as it takes: one try, in the sense of `send_in_pieces`."""
        return send_in_pieces(len(self._body), piece_bytes=piece_bytes, stored=self._stored, send=self._piece)

    def _stored(self) -> int:
        """Ask how much has arrived. A refusal has no body here to say why: that of the next piece has.

        A line that lets blocks through is not in a row of failures.
        """
        try:
            headers = self._calls.once("HEAD", self._path).headers
        except (CallRefused, ClientMustAct):
            return 0
        offset = headers.get("upload-offset", "")
        if not (offset.isascii() and offset.isdecimal()):
            raise unusable(f"Upload-Offset is {printable(offset[:40])!r}, wanted the number of bytes that arrived")
        arrived = int(offset[:18])
        if arrived >= self._arrived + BLOCK_BYTES:
            self._calls.backoff.succeeded()
        self._arrived = arrived
        return arrived

    def _piece(self, start: int, end: int) -> UpdateAnswer | None:
        is_last = end >= len(self._body)
        headers = {"Content-Type": _PIECE, "Upload-Offset": str(start), "Upload-Complete": "?1" if is_last else "?0"}
        if is_last:
            headers["Content-Digest"] = self._digest
        reply = self._send("PATCH", start, end, headers)
        return None if reply.status == 204 and not is_last else reply.read(UpdateAnswer)

    def _send(self, method: str, start: int, end: int, headers: dict[str, str]) -> Reply:
        blocks = _blocks(self._body[start:end], start, on_sent=self._on_sent, give_up=self._calls.give_up)
        length = {"Content-Length": str(len(self._body[start:end]))}
        return self._calls.once(method, self._path, content=blocks, headers={**headers, **length})


def send_in_pieces(
    num_bytes: int,
    *,
    piece_bytes: int,
    stored: Callable[[], int],
    send: Callable[[int, int], _AnswerT | None],
) -> _AnswerT:
    """Send a body of `num_bytes` and return the answer to its last piece.

    `stored` asks how much has arrived. `send` sends what lies between two places and returns None after
    a piece that was not the last. Where one breaks off, the rest goes on from what has arrived, as often
    as at least a block more has; so a line that breaks every few seconds is good enough.

    Raises:
        NotNow: as `stored` and `send`, once less than a block gets through.
        FedComputeError: whatever else they raise.
    """
    wanted = 0
    while True:
        start = stored()
        try:
            while (answer := send(start, min(start + piece_bytes, max(num_bytes, start)))) is None:
                start += piece_bytes
        except NotNow:
            if not wanted <= start <= num_bytes:
                raise
            wanted = start + BLOCK_BYTES
        else:
            return answer


def _blocks(content: memoryview, begin: int, *, on_sent: Sent, give_up: Callable[[], bool]) -> Iterator[memoryview]:
    """Yield a piece that begins at `begin` in blocks; tell after each how far the whole has gone.

    Raises:
        CoordinatorUnreachable: if `give_up` says so: the line is cut in the middle of the piece.
    """
    for start in range(0, len(content), BLOCK_BYTES):
        if give_up():
            raise CoordinatorUnreachable("the client was asked to stop while it sent", retry_after_seconds=0.0)
        block = content[start : start + BLOCK_BYTES]
        yield block
        on_sent(begin + start + len(block))
