"""HTTP's conditional and partial requests (RFC 9110, sections 13 and 14) for content that never changes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fed_compute.errors import RangeNotSatisfiable

_SINGLE = re.compile(r"bytes=\s*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` up to, but not including, `end`."""

    start: int
    end: int


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Say whether the client already has the content (weak comparison)."""
    if if_none_match is None:
        return False
    known = [item.strip().removeprefix("W/") for item in if_none_match.split(",")]
    return "*" in known or etag in known


def requested_span(headers: Mapping[str, str], *, size: int, etag: str) -> Span | None:
    """Return which part is asked for, None for the whole.

    Several ranges, another unit, or an `If-Range` of other content mean the whole, as the RFC allows.

    Raises:
        RangeNotSatisfiable: if the part begins after the end.
    """
    match = _SINGLE.fullmatch(headers.get("range", ""))
    if match is None or headers.get("if-range", etag) != etag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if int(suffix) == 0:
            raise RangeNotSatisfiable(size=size)
        return Span(max(0, size - int(suffix)), size)
    start = int(first)
    if last and int(last) < start:
        return None  # not a valid range, so it does not count
    if start >= size:
        raise RangeNotSatisfiable(size=size)
    return Span(start, min(int(last) + 1, size) if last else size)


def accepts(header: str | None, media_type: str) -> bool:
    """Say whether an `Accept` header names a media type itself; `*/*` does not."""
    for item in (header or "").split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        if kind == media_type:
            return not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return False
