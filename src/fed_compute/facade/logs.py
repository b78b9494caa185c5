"""What a program that uses the product as a library sees of its logs."""

import logging
import sys

import structlog

from fed_compute.protocol.redaction import redact_event


def keep_quiet() -> None:
    """Let warnings and worse through, to standard error, unless the program has set structlog up itself."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact_event,
            structlog.dev.ConsoleRenderer(colors=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
