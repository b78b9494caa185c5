"""Rounds of updates to combine."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st


@dataclass(frozen=True)
class Sent:
    """Updates of one round, float32 (n, d), and how many of them may lie."""

    deltas: npt.NDArray[np.float32]
    f: int

    @property
    def exact(self) -> npt.NDArray[np.float64]:
        """The same in float64."""
        return self.deltas.astype(np.float64)

    @property
    def scale(self) -> float:
        """The largest norm among them."""
        return float(np.linalg.norm(self.exact, axis=1).max())


@st.composite
def sent(draw: st.DrawFn, *, min_updates: int = 5, max_updates: int = 40, max_size: int = 2_000) -> Sent:
    """Honest updates round a common direction, and up to f < n/2 liars who push elsewhere, harder or softer."""
    n, d = draw(st.integers(min_updates, max_updates)), draw(st.integers(1, max_size))
    f = draw(st.integers(0, (n - 3) // 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread, push = draw(st.sampled_from([0.1, 1.0, 10.0])), draw(st.sampled_from([0.01, 1.0, 100.0]))
    deltas = rng.standard_normal(d) + spread * rng.standard_normal((n, d))
    deltas[rng.permutation(n)[:f]] = push * rng.standard_normal(d) + 0.1 * rng.standard_normal((f, d))
    return Sent(deltas.astype(np.float32), f)


def far_apart(found: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64], round_: Sent) -> float:
    """Return the largest difference of a value, as a part of the largest norm of the round."""
    return float(np.abs(found - wanted).max()) / max(round_.scale, 1e-30)
