"""What repeated outcomes let one expect: a Beta distribution that forgets.

r and s are the weights of good and bad outcomes. Each new outcome g in [0, 1] of weight w first lets the
old ones fade, then adds itself (Jøsang and Ismail 2002):

    r ← λ·r + w·g        s ← λ·s + w·(1 − g)
    expected     E = (r + 1) / (r + s + 2)
    lower bound  L = E − z·sqrt(E·(1 − E) / (r + s + 3)),  z = 1.645

Time fades both as well, by half in `HALF_LIFE_SECONDS`: whoever stays away loses certainty.
"""

import math
from dataclasses import dataclass

Z_95 = 1.645
"""One-sided 95 % quantile of the normal distribution."""

HALF_LIFE_SECONDS = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Belief:
    """Good and bad outcomes by weight, as they stood at `at`, Unix seconds."""

    good: float = 0.0
    bad: float = 0.0
    at: float = 0.0

    @property
    def expected(self) -> float:
        """The share of good outcomes to expect: 0.5 while nothing is known."""
        return (self.good + 1.0) / (self.good + self.bad + 2.0)

    @property
    def lower_bound(self) -> float:
        """What the share is at least, with 95 % confidence: near 0 while little is known."""
        expected = self.expected
        spread = math.sqrt(expected * (1.0 - expected) / (self.good + self.bad + 3.0))
        return max(0.0, expected - Z_95 * spread)

    def faded(self, *, now: float) -> "Belief":
        """Return the belief as it stands at `now`. A clock that was set back fades nothing."""
        if now <= self.at:
            return self
        kept = math.exp2(-(now - self.at) / HALF_LIFE_SECONDS)
        return Belief(self.good * kept, self.bad * kept, now)

    def after(self, outcome: float, *, at: float, forgetting: float, weight: float = 1.0) -> "Belief":
        """Return the belief after an outcome from 0 (bad) to 1 (good); `forgetting` is λ, from 0 to 1."""
        before = self.faded(now=at)
        return Belief(
            good=forgetting * before.good + weight * outcome,
            bad=forgetting * before.bad + weight * (1.0 - outcome),
            at=before.at,
        )
