"""What a request is about, told in every line that is logged on its behalf.

Routes run on several threads, each with a copy of the request's context, so what one of them finds out would be lost
to the others. The copies share one table, and that is what is written into.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_FACTS: ContextVar[dict[str, object] | None] = ContextVar("facts_of_request", default=None)


@contextmanager
def request_context(**facts: object) -> Iterator[None]:
    """Let every line that is logged within the block, on any thread that works for it, carry these facts."""
    token = _FACTS.set(facts)
    try:
        yield
    finally:
        _FACTS.reset(token)


def concerns(**facts: object) -> None:
    """Add facts to the present request's lines from now on; None means not known. Outside of requests it does nothing.

    The names are `client_id` (whose key came with it), `key_id` (an operator's or observer's), `job`, `round_id`,
    `task_id`, and `code` of a refusal.
    """
    if (known := _FACTS.get()) is not None:
        known.update({name: value for name, value in facts.items() if value is not None})


def merge_facts(logger: Any, method: str, event: Any) -> Any:
    """Put the request's facts into a line; what the line says itself wins (a structlog processor)."""
    return {**(_FACTS.get() or {}), **event}
