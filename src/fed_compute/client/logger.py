"""Structured logs, set up once per process; keys never get into them."""

import sys
from typing import Any, Literal, TextIO

import structlog

from fed_compute.protocol.redaction import redact_event


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
            redact_event,
            shape,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr if stream is None else stream),
        cache_logger_on_first_use=False,
    )
