"""`Fed-Compute-Retry-Window`: between which moments a client without work asks again, as `from-to` in seconds."""

import math

RETRY_WINDOW = "Fed-Compute-Retry-Window"
LONGEST_SECONDS = 86_400.0


def write_retry_window(start_seconds: float, end_seconds: float) -> str:
    """Return the field's value, to the millisecond."""
    return f"{start_seconds:.3f}-{end_seconds:.3f}"


def read_retry_window(text: str) -> tuple[float, float] | None:
    """Return the start and the end in seconds from now, each at most a day; None if the text is no window."""
    start, _, end = text.partition("-")
    try:
        moments = float(start), float(end)
    except ValueError:
        return None
    if not (math.isfinite(moments[1]) and 0 <= moments[0] <= moments[1]):
        return None
    return min(moments[0], LONGEST_SECONDS), min(moments[1], LONGEST_SECONDS)
