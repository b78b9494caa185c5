"""How many tasks a client may take on one day: few for a machine whose results are bad, ever more for a good one.

BOINC's rule: a valid result doubles the day's quota up to a ceiling, a bad one takes one off, and nobody
falls below one. A failed audit leaves one.
"""

import math
from dataclasses import dataclass, replace

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class QuotaRules:
    """The operator's numbers: what a newcomer may take on one day, and the most that anybody may."""

    newcomer: int = 20
    ceiling: int = 100_000


@dataclass(frozen=True, slots=True)
class Quota:
    """`per_day` tasks of kind `train`, of which `used` were taken on day number `day` (UTC, since 1970)."""

    per_day: int
    day: int = 0
    used: int = 0

    def taken(self, *, at: float) -> "Quota":
        """Return the quota after a task was handed out."""
        today = math.floor(at / DAY_SECONDS)
        return replace(self, day=today, used=self.used + 1 if today == self.day else 1)

    def after_valid(self, rules: QuotaRules) -> "Quota":
        """Return the quota after a valid result."""
        return replace(self, per_day=min(rules.ceiling, 2 * self.per_day))

    def after_bad(self) -> "Quota":
        """Return the quota after a result that was refused or never came."""
        return replace(self, per_day=max(1, self.per_day - 1))

    def after_failed_audit(self) -> "Quota":
        """Return the quota after an audit failed."""
        return replace(self, per_day=1)

    def used_today(self, *, now: float) -> int:
        """Return how many tasks were handed out on the day of `now`."""
        return self.used if self.day == math.floor(now / DAY_SECONDS) else 0


def wait_seconds(quota: Quota | None, *, now: float) -> float:
    """Return how long a client must wait for its next task: 0 if it may have one now, else the rest of the day.

    A client of whom nothing is recorded waits for nothing.
    """
    if quota is None or quota.used_today(now=now) < quota.per_day:
        return 0.0
    return DAY_SECONDS - now % DAY_SECONDS
