"""Taking API keys and invitations out of everything that is written down: logs and error documents of both sides."""

import re
from collections.abc import Mapping
from typing import Any

# A whole secret wherever it stands, a piece of a key where a word begins: `task_id` is no secret.
_SECRET = re.compile(r"(sk|inv)_[A-Za-z0-9]{10}_[A-Za-z0-9]{8,}|(?<![A-Za-z0-9])(sk)_[A-Za-z0-9_\-]+")


def redact(text: str) -> str:
    """Return the text with everything that looks like an API key or an invitation taken out."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}_[redacted]", text)


def redact_all(value: Any) -> Any:
    """Return the value with secrets taken out however deep they stand; what is no plain data becomes text."""
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
    """Take secrets out of a log event (a structlog processor)."""
    return redact_all(event)
