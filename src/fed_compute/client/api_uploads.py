"""A long body in pieces, each from where the coordinator has the end of the one before."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from fed_compute.errors import CoordinatorUnreachable, NotNow

BLOCK_BYTES = 64 << 10
_AnswerT = TypeVar("_AnswerT")


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


def blocks_of(
    content: memoryview, *, on_sent: Callable[[int], None], give_up: Callable[[], bool]
) -> Iterator[memoryview]:
    """Yield a body in blocks; tell after each how many bytes have gone.

    Raises:
        CoordinatorUnreachable: if `give_up` says so: the line is cut in the middle of the body.
    """
    for start in range(0, len(content), BLOCK_BYTES):
        if give_up():
            raise CoordinatorUnreachable("the client was asked to stop while it sent", retry_after_seconds=0.0)
        yield content[start : start + BLOCK_BYTES]
        on_sent(min(start + BLOCK_BYTES, len(content)))
