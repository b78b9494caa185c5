"""What an answer of the coordinator means for the client: one error class per thing to do about it.

    NotNow         keep everything, come back later (no connection, timeouts, 408, 425, 429, 5xx; 403 while an operator
                   has not approved this client yet)
    TaskOver       the round or the lease has ended; late, not failed (410 and the codes below)
    ClientMustAct  asking again is useless until the owner changes something (401, 403, 426, 3xx)
    ProofOfWorkRequired  register again with a solution of the challenge it brings (428)
    CallRefused    this very request is wrong; drop it and show why (other 4xx)

The stable `code` of the problem document decides before the status does.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from fed_compute.errors import (
    CallRefused,
    ClientMustAct,
    CoordinatorBusy,
    FedComputeError,
    ProofOfWorkRequired,
    TaskOver,
)
from fed_compute.protocol.messages import Problem
from fed_compute.protocol.retry_window import RETRY_WINDOW, read_retry_window

_LATER_STATUSES = frozenset({408, 425, 429})
_LATER_CODES = frozenset({"digest_mismatch", "upload_offset_mismatch", "client_pending"})
_OVER_CODES = frozenset({"round_over", "lease_expired", "task_not_found", "not_assigned", "round_not_found"})
_MUST_ACT_CODES = frozenset({"client_not_found", "client_name_taken", "client_name_invalid"})
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
    facts = {"answered": code, "http_status": status}
    if status in _LATER_STATUSES or status >= 500 or code in _LATER_CODES:
        advice = retry_after(headers)
        return CoordinatorBusy(message, retry_after_seconds=advice or 0.0, told=advice is not None, **facts)
    if status == 410 or code in _OVER_CODES:
        return TaskOver(message, **facts)
    if status in (401, 403, 426) or status < 400 or code in _MUST_ACT_CODES:
        return ClientMustAct(f"{message}{_advice(status, headers)}", **facts)
    return CallRefused(message, **facts)


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
