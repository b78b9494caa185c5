"""The aggregation rules that the table compares, each written as a job file writes it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fed_compute.coordinator.folding import rule_of
from fed_compute.learning.aggregation import ArrayMatrix, Claim, Outcome, RoundContext, round_weights
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER
from fed_compute.learning.vectors import Vector, Vector64
from fed_compute.protocol.aggregation_section import AggregationSection
from fed_compute.simulator.attacks.attack import Stack

DEFENCES: Mapping[str, Mapping[str, Any]] = {
    "fedavg": {"rule": "fedavg"},
    "norm_clipping": {"rule": "norm_clipping"},
    "median": {"rule": "median"},
    "trimmed_mean": {"rule": "trimmed_mean"},
    "krum": {"rule": "krum"},
    "multi_krum": {"rule": "multi_krum"},
    "geometric_median": {"rule": "geometric_median"},
    "centered_clipping": {"rule": "centered_clipping"},
    "bucketing": {"rule": "centered_clipping", "pre": ["norm_clipping", "bucketing"]},
    "fltrust": {"rule": "fltrust", "trusted_client": "trusted"},
    "robust": {"rule": "robust"},
}
"""Row of the table → the `[aggregation]` section of a job. Where a rule counts liars, it is told how many there are."""


class Defence:
    """A job's rule and weights, applied to updates that lie in memory.

    Does what `Aggregator` does with the same section, less its file of updates.
    """

    def __init__(self, name: str, *, num_attackers: int) -> None:
        section = AggregationSection(**DEFENCES[name])
        if section.uses_f:
            section = AggregationSection(**DEFENCES[name], f=num_attackers)
        self._section = section
        self._rule = rule_of(section)

    def combine(
        self, updates: Stack, claims: Vector64, *, center: Vector, trusted: Vector | None, seed: int
    ) -> Outcome:
        """Combine one round's updates, float32 (n, P), with their claimed sample counts, float64 (n,).

        `center` is the last round's result, `trusted` what the operator's own client sent, (P,), if it is finite; a
        rule that has no use for them does not get them. No client is new to the job.

        Raises:
            UpdateRefused: if an update is not finite.
            UpdateShapeMismatch: if there is none.
            RootUpdateMissing: if the trusted client's update is missing.
        """
        root = None
        if self._section.rule == "fltrust" and trusted is not None:
            updates, claims, root = np.vstack([trusted, updates]), np.append(1.0, claims), 0
        told = [Claim(int(claim), counted_before=ESTABLISHED_AFTER) for claim in claims]
        weighting, share = self._section.weights_by, self._section.newcomer_share
        return self._rule.aggregate(
            ArrayMatrix(updates),
            np.array(round_weights(told, weighting=weighting, newcomer_share=share)),
            RoundContext(center if self._section.rule == "centered_clipping" else None, root, seed=seed),
        )
