"""Under which id the coordinator logged what this client asked last, so that two logs can be laid side by side."""

from collections.abc import Mapping
from contextvars import ContextVar

from fed_compute.client.answers import printable

HEADER = "x-request-id"
_LONGEST = 128

_last: ContextVar[str | None] = ContextVar("request_id_of_last_answer", default=None)


def note_answer(headers: Mapping[str, str]) -> None:
    """Remember, for this thread, the id that an answer brings."""
    given = headers.get(HEADER)
    _last.set(None if given is None else printable(given[:_LONGEST]))


def note_no_answer() -> None:
    """Remember that the last call had no answer."""
    _last.set(None)


def request_id_of_last_answer() -> str | None:
    """Return the id of this thread's last answer; None if there was none, or it brought no id."""
    return _last.get()
