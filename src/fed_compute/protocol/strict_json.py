"""JSON as RFC 8259 means it: what Python's reader forgives is refused here."""

import json
from collections import Counter

from fed_compute.errors import UpdateMalformed


def load_strict_json(text: str | bytes, *, what: str, non_finite: bool = False) -> object:
    """Read one JSON document; `what` names it in the error. Memory: up to about 20 times the text, so cap it first.

    Refuses duplicate keys. Refuses the tokens NaN, Infinity and -Infinity unless `non_finite`, for a
    caller that reports such values by their position. `1e999` comes back as an infinity.

    Raises:
        UpdateMalformed: if the text is not one JSON document in UTF-8, or uses what is refused.
    """
    try:
        # Bytes are decoded here, since json would also take UTF-16 and UTF-32.
        written = text if isinstance(text, str) else text.decode("utf-8")
        return (_FORGIVING if non_finite else _STRICT).decode(written)
    except RecursionError as error:
        raise UpdateMalformed(f"{what} is nested too deeply") from error
    except ValueError as error:
        raise UpdateMalformed(f"{what} is not JSON: {str(error)[:200]}") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"key {twice[:80]!r} comes twice")
    return members


def _refuse_constant(token: str) -> object:
    raise ValueError(f"{token} is not a JSON number")


# Made once: a decoder costs as much as the reading of a short text.
_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
_FORGIVING = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=float)
