"""Taking API keys out of everything that is written down: logs and error documents of both sides."""

import re
from collections.abc import Mapping
from typing import Any

# A whole key wherever it stands, a piece of one where a word begins: `task_id` is no secret.
_KEY = re.compile(r"sk_[A-Za-z0-9]{10}_[A-Za-z0-9]{8,}|(?<![A-Za-z0-9])sk_[A-Za-z0-9_\-]+")
_REPLACEMENT = "sk_[redacted]"


def redact(text: str) -> str:
    """Return the text with everything that looks like an API key taken out."""
    return _KEY.sub(_REPLACEMENT, text)


def redact_all(value: Any) -> Any:
    """Return the value with keys taken out however deep they stand; what is no plain data becomes text."""
    match value:
        case str():
            return redact(value)
        case Mapping():
            return {redact_all(key): redact_all(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [redact_all(item) for item in value]
        case None | bool() | int() | float():
            return value
        case _:
            return redact(str(value))


def redact_event(logger: Any, method: str, event: Any) -> Any:
    """Take keys out of a log event (a structlog processor)."""
    return redact_all(event)
