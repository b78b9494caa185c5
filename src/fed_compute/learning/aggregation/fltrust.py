"""Trust in proportion to how far an update points where a trusted client's points."""

import math
from dataclasses import dataclass

import numpy as np

from fed_compute.errors import RootUpdateMissing
from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.vectors import Vector64


@dataclass(frozen=True, slots=True)
class FLTrust:
    """Σ w_i t_i x_i · ‖x₀‖ / ‖x_i‖ over Σ w_i t_i, where t_i = max(0, cos(x_i, x₀)) and x₀ is the trusted update.

    Source: Cao et al. 2021 (arXiv:2012.13995). There the server trains x₀ on a small set of its own; here it is the
    update of a client whom the operator trusts, which takes part itself with trust 1.
    Bears any number of liars, as far as the trusted client's data stand for everybody's.
    Cost: the Gram matrix, n²·P, and one pass.
    """

    @property
    def uses_num_liars(self) -> bool:
        return False

    def least_updates(self, num_liars: int) -> int:
        return 1

    def influence(self, cohort: Cohort) -> Vector64:
        """Return λ.

        Raises:
            RootUpdateMissing: if the cohort has no trusted update.
        """
        if cohort.root is None:
            raise RootUpdateMissing()
        norms, n = cohort.norms(), cohort.num_updates
        if norms[cohort.root] == 0.0:
            return np.zeros(n, dtype=np.float64)  # the trusted client wants no change
        towards = cohort.gram[cohort.root] / (norms[cohort.root] * np.where(norms > 0.0, norms, 1.0))
        trust = cohort.weights * np.clip(towards, 0.0, 1.0)
        trust[cohort.root] = cohort.weights[cohort.root]
        influence: Vector64 = trust / math.fsum(trust) * norms[cohort.root] / np.where(norms > 0.0, norms, 1.0)
        return influence
