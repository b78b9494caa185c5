"""The aggregation rules that the table compares, each as a job would run it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fed_compute.learning.aggregation import ArrayMatrix, Outcome, RobustRule, new_rule
from fed_compute.learning.aggregation.centered_clipping import CenteredClipping
from fed_compute.learning.vectors import Vector, Vector64
from fed_compute.simulator.attacks.attack import Stack


@dataclass(frozen=True, slots=True)
class Defence:
    """A rule, and whether it weighs updates by the sample counts that clients claim or counts all alike."""

    rule: RobustRule
    believes_claims: bool = False
    needs_root: bool = False

    def combine(self, updates: Stack, claims: Vector64, *, center: Vector, root: int | None, seed: int) -> Outcome:
        """Combine one round's updates, float32 (n, P), with their claimed sample counts, float64 (n,).

        `center` is the last round's result, `root` the row of the client whom the operator trusts; a rule that has no
        use for them does not get them.

        Raises:
            UpdateRefused: if an update is not finite or there is none.
            RootUpdateMissing: if the trusted client's update is missing.
        """
        return self.rule.aggregate(
            ArrayMatrix(updates),
            claims if self.believes_claims else np.ones_like(claims),
            center=center if isinstance(self.rule.core, CenteredClipping) else None,
            root=root if self.needs_root else None,
            seed=seed,
        )


DEFENCES: Mapping[str, Callable[[int], Defence]] = {
    "fedavg": lambda f: Defence(new_rule("fedavg", f=f), believes_claims=True),
    "norm_clipping": lambda f: Defence(new_rule("norm_clipping", f=f)),
    "median": lambda f: Defence(new_rule("median", f=f)),
    "trimmed_mean": lambda f: Defence(new_rule("trimmed_mean", f=f)),
    "krum": lambda f: Defence(new_rule("krum", f=f)),
    "multi_krum": lambda f: Defence(new_rule("multi_krum", f=f)),
    "geometric_median": lambda f: Defence(new_rule("geometric_median", f=f)),
    "centered_clipping": lambda f: Defence(new_rule("centered_clipping", f=f)),
    "bucketing": lambda f: Defence(new_rule("centered_clipping", f=f, pre=("norm_clipping", "bucketing"))),
    "fltrust": lambda f: Defence(new_rule("fltrust", f=f), needs_root=True),
    "robust": lambda f: Defence(new_rule("robust", f=f)),
}
"""Row of the table → the defence, told how many clients may lie. `bucketing` is centered clipping behind norm
clipping and groups of two; all others are the rule of that name."""
