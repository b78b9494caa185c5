"""How rate limits are told: the `RateLimit` and `RateLimit-Policy` fields.

Source: draft-ietf-httpapi-ratelimit-headers-11 (May 2026), structured fields of RFC 9651.
"""

import math
from collections.abc import Sequence

from fed_compute.coordinator.rate_limiter import REQUESTS, Allowance
from fed_compute.errors import RateLimited


def fields_of(allowances: Sequence[Allowance]) -> dict[str, str]:
    """Return the fields that tell what is left of some limits."""
    return {
        "RateLimit-Policy": ", ".join(
            _policy(a.limit, a.policy.quota, a.policy.window_seconds, a.policy.unit) for a in allowances
        ),
        "RateLimit": ", ".join(_left(a.limit, a.remaining, a.seconds) for a in allowances),
    }


def fields_of_refusal(error: RateLimited) -> dict[str, str]:
    """Return the fields of a refusal. Its window ends when `Retry-After` does."""
    return {
        "RateLimit-Policy": _policy(error.policy, error.quota, error.window_seconds, error.unit),
        "RateLimit": _left(error.policy, error.remaining, error.retry_after_seconds),
    }


def _policy(name: str, quota: int, window_seconds: int, unit: str) -> str:
    told_unit = "" if unit == REQUESTS else f';qu="{unit}"'  # requests are what is counted without another word
    return f'"{name}";q={quota}{told_unit};w={window_seconds}'


def _left(name: str, remaining: int, seconds: float) -> str:
    return f'"{name}";r={remaining};t={math.ceil(seconds)}'
