"""The PrivacyProtector in open mode: bounded, finite updates."""

import math

from fed_compute.errors import UpdateAllZero, UpdateNormTooLarge
from fed_compute.learning.vectors import Vector, clip_to_norm, l2_norm, require_finite


def default_max_norm(num_parameters: int) -> float:
    """Return the hard cap on the L2 norm of an update when a job sets none: 10 · √P."""
    return 10.0 * math.sqrt(num_parameters)


class PrivacyProtector:
    """Bounds what one update can do to the model: the client clips, the server checks.

    Not promised: open mode adds no noise and hides nothing. The coordinator sees every update, and
    an update can reveal training data to it. The norm bound limits one sender's influence, and is
    the sensitivity bound that the noisy modes build on.
    """

    def __init__(self, max_norm: float | None = None, *, reason: str = "") -> None:
        """Take the limit on the L2 norm of an update, None stands for 10 · √P; `reason` is told with a refusal."""
        self._max_norm = max_norm
        self._reason = reason

    def check(self, delta: Vector) -> float:
        """Return the L2 norm of an update, float32 (P,), after it was found harmless. Server half.

        One pass over the values, in float64: the sum of their squares cannot overflow, so it is finite
        exactly if they all are, and zero exactly if they all are.

        Raises:
            UpdateNotFinite: if it holds NaN or an infinity.
            UpdateAllZero: if every value is zero.
            UpdateNormTooLarge: if it is longer than the limit.
        """
        norm = l2_norm(delta)
        if not math.isfinite(norm):
            require_finite(delta)  # says how many values, and where
        if norm == 0:
            raise UpdateAllZero(count=delta.size)
        limit = self._max_norm if self._max_norm is not None else default_max_norm(delta.size)
        if norm > limit:
            raise UpdateNormTooLarge(got=norm, limit=limit, reason=self._reason)
        return norm

    @staticmethod
    def clip(delta: Vector, max_norm: float) -> Vector:
        """Return the update scaled down as a whole so that `check` with this limit passes. Client half.

        A lossy encoding afterwards can lengthen it again: clip what will be decoded, or clip lower.

        Raises:
            UpdateNotFinite: if it holds NaN or an infinity.
        """
        return clip_to_norm(delta, max_norm)


def tighter_norm(*limits: float | None) -> float | None:
    """Return the smallest of several limits on an update's L2 norm; None if there is no limit. Client half.

    The owner of a machine may set one below the job's. The server's `check` passes either way.
    """
    return min((limit for limit in limits if limit is not None), default=None)
