"""Structured logs, set up once per process; keys never get into them."""

import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog

_KEY = re.compile(r"sk_[A-Za-z0-9_\-]+")
_REPLACEMENT = "sk_[redacted]"


def configure_logging(style: Literal["json", "console"] = "json", *, stream: TextIO | None = None) -> None:
    """Send every event to `stream` (standard error if None): one JSON object per line, or text for people.

    Each line has `event`, `level`, `timestamp` (UTC, ISO 8601) and the event's own fields.
    """
    shape: Any = structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact_keys,
            shape,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr if stream is None else stream),
        cache_logger_on_first_use=False,
    )


def redact_keys(logger: Any, method: str, event: Any) -> Any:
    """Replace anything that looks like an API key, however deep in the event (a structlog processor)."""
    return _redacted(event)


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return _KEY.sub(_REPLACEMENT, value)
        case Mapping():
            return {_redacted(key): _redacted(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [_redacted(item) for item in value]
        case None | bool() | int() | float():
            return value
        case _:
            return _KEY.sub(_REPLACEMENT, str(value))
