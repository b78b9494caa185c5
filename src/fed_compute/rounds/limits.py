"""How long an update may be, judged by the updates of the job's last rounds.

A fixed limit has to be generous, since nobody knows beforehand how long honest updates are. Once
enough have come, they tell: one that is far longer than nearly all of them is refused. Both rules
leave honest clients room, because a lease says the limit and a client shortens its update to it.

Not promised: a crowd of liars can raise the limit round by round, up to the fixed one.
"""

import math
import statistics
from collections.abc import Sequence

ENOUGH_NORMS = 50
"""Updates that must have come before they tell anything."""

RECENT_ROUNDS = 50
"""Ended rounds that are looked at. A fleet whose updates all become longer is let in after so many at the latest."""

RECENT_NORMS = 1_000
"""The most updates of those rounds that are looked at, the newest first."""

_QUANTILE = 0.98
_TIMES_QUANTILE, _PLUS = 2.0, 1.0
_TIMES_MEDIAN = 100.0


def recent_norm_limit(norms: Sequence[float]) -> float | None:
    """Return the largest L2 norm that is still like those of recent accepted updates, None while there are too few.

    It is the smaller of 2 · q + 1, where q is the 0.98 quantile (nearest rank), and 100 times the
    median. The order of `norms` does not matter.

    Source: the zeroing threshold of TensorFlow Federated's `zeroing_factory`, 2 · q + 1 of the 0.98 quantile.
    """
    if len(norms) < ENOUGH_NORMS:
        return None
    ordered = sorted(norms)
    quantile = ordered[math.ceil(_QUANTILE * len(ordered)) - 1]
    return min(_TIMES_QUANTILE * quantile + _PLUS, _TIMES_MEDIAN * statistics.median(ordered))
