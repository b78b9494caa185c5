"""What an answer of the coordinator means for the client: one error class per thing to do about it.

    NotNow         keep everything, come back later
    TaskOver       the round or the lease has ended; late, not failed
    ClientMustAct  asking again is useless until the owner changes something
    ProofOfWorkRequired  register again with a solution of the challenge it brings
    CallRefused    this very request is wrong; drop it and show why

The stable `code` of the problem document decides, by the class that has this code in `errors`: what is not now, or
broken at the coordinator, is kept and tried again; what is refused is refused. A few refusals mean something else to a
client; they are listed below. A code that this version does not know, or an answer that has none because something on
the way gave it, is judged by its HTTP status: 408, 425, 429 and 5xx are not now, 410 is over, 3xx, 401, 403, 407 and
426 are for the owner, other 4xx are refused.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from fed_compute.errors import (
    Broken,
    CallRefused,
    ClientMustAct,
    ClientNameInvalid,
    ClientNameTaken,
    ClientNotFound,
    CoordinatorBusy,
    DigestMismatch,
    FedComputeError,
    LeaseExpired,
    NotAssigned,
    NotNow,
    ProofOfWorkRequired,
    RoundNotFound,
    RoundOver,
    TaskNotFound,
    TaskOver,
    UploadOffsetMismatch,
    error_kinds,
)
from fed_compute.protocol.messages import Problem
from fed_compute.protocol.retry_window import RETRY_WINDOW, read_retry_window

_KINDS = error_kinds()
_OVER = frozenset({RoundOver, LeaseExpired, TaskOver, TaskNotFound, NotAssigned, RoundNotFound})
_DAMAGED_ON_THE_WAY = frozenset({DigestMismatch, UploadOffsetMismatch})
_OWNER_STATUSES = frozenset({401, 403, 407, 426})
_FOR_THE_OWNER = frozenset({ClientNotFound, ClientNameTaken, ClientNameInvalid, ClientMustAct})
_LATER_STATUSES = frozenset({408, 425, 429})
_LONGEST_ADVICE = 86_400.0


class _Challenge(BaseModel):
    """The members of a problem document that ask for a proof of work."""

    detail: str
    challenge: Annotated[str, Field(max_length=200, pattern=r"^[!-~]+$")]
    difficulty_bits: Annotated[int, Field(ge=1, le=256, strict=True)]
    algorithm: Literal["sha-256"]
    expires_at: Annotated[float, Field(allow_inf_nan=False)]


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> FedComputeError:
    """Return the error that an answer other than success stands for. Pure; never raises.

    `details` has `answered` (the coordinator's own code) and `http_status`.
    """
    code, detail = _problem(body)
    if code == ProofOfWorkRequired.code and (wanted := _challenge(body)) is not None:
        return wanted
    message = f"the coordinator answered {status} ({code}): {detail}"
    facts: dict[str, Any] = {"answered": code, "http_status": status}
    meaning = _meaning(code, status)
    if meaning is CoordinatorBusy:
        advice = retry_after(headers)
        return CoordinatorBusy(message, retry_after_seconds=advice or 0.0, told=advice is not None, **facts)
    if meaning is ClientMustAct:
        return ClientMustAct(f"{message}{_advice(status, headers)}", **facts)
    return meaning(message, **facts)


def is_documented(error: CallRefused) -> bool:
    """Say whether a refusal has a code of the protocol; if not, something on the way may have answered."""
    return error.details.get("answered") in _KINDS


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a `Retry-After` header, at most a day; None if absent, a date or nonsense."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, _LONGEST_ADVICE) if math.isfinite(seconds) and seconds >= 0 else None


def retry_window(headers: Mapping[str, str]) -> tuple[float, float] | None:
    """Return from and to how many seconds from now to ask again: the window that is told, else `Retry-After`."""
    window = read_retry_window(headers.get(RETRY_WINDOW.lower(), ""))
    if window is None and (moment := retry_after(headers)) is not None:
        return moment, moment
    return window


def printable(text: str) -> str:
    """Return a coordinator's text as it may be shown: what can steer a terminal becomes a replacement character."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _meaning(code: str, status: int) -> type[CoordinatorBusy | TaskOver | ClientMustAct | CallRefused]:
    kind = _KINDS.get(code)
    if kind is None:
        return _meaning_of_status(status)
    if issubclass(kind, NotNow | Broken) or kind in _DAMAGED_ON_THE_WAY:
        return CoordinatorBusy
    if kind in _OVER:
        return TaskOver
    return ClientMustAct if kind in _FOR_THE_OWNER or kind.status in _OWNER_STATUSES else CallRefused


def _meaning_of_status(status: int) -> type[CoordinatorBusy | TaskOver | ClientMustAct | CallRefused]:
    if status >= 500 or status in _LATER_STATUSES:
        return CoordinatorBusy
    if status == 410:
        return TaskOver
    return ClientMustAct if status < 400 or status in _OWNER_STATUSES else CallRefused


def _problem(body: bytes) -> tuple[str, str]:
    """Return code and detail of a problem document; other bodies have the code `none`."""
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return "none", printable(body[:200].decode("utf-8", errors="replace").strip()) or "no explanation"
    return printable(problem.code[:80]), printable(problem.detail[:500])


def _challenge(body: bytes) -> ProofOfWorkRequired | None:
    """Return the challenge that a problem document brings, None if it is none that a client could solve."""
    try:
        asked = _Challenge.model_validate_json(body)
    except ValidationError:
        return None
    return ProofOfWorkRequired(
        found=asked.detail[:200],
        challenge=asked.challenge,
        difficulty_bits=asked.difficulty_bits,
        expires_at=asked.expires_at,
    )


def _advice(status: int, headers: Mapping[str, str]) -> str:
    if status == 426:
        return "; upgrade fed-compute on this machine"
    if status == 401:
        return "; check CLIENT_API_KEY, or move the credential file away to register anew"
    if status < 400:
        return f"; it has moved, set COORDINATOR_URL to {printable(headers.get('location', 'its new address')[:200])}"
    return ""
