"""No update longer than the median one."""

from dataclasses import dataclass

import numpy as np

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.masses import weighted_median
from fed_compute.learning.aggregation.matrix import Matrix64, ScaledMatrix


@dataclass(frozen=True, slots=True)
class NormClipping:
    """Scale each update down as a whole to a norm of at most `max_norm`, or to the median norm of the round.

    Source: Sun et al. 2019 (arXiv:1911.07963) for the bound; the median makes it follow the round. Takes the edge
    off scaling and Gaussian noise, the cheapest attacks; alone it bears no liar that stays short.
    The factors are rounded to float32, so a norm may end above the bound by a ten-millionth of it.
    Cost: the norms come with the Gram matrix.
    """

    max_norm: float | None = None

    @property
    def uses_num_liars(self) -> bool:
        return False

    def num_rows(self, num_updates: int) -> int:
        return num_updates

    def prepare(self, cohort: Cohort, *, seed: int) -> tuple[Cohort, Matrix64]:
        norms = cohort.norms()
        limit = weighted_median(norms, cohort.weights) if self.max_norm is None else self.max_norm
        factors = (limit / np.maximum(norms, max(limit, 1e-300))).astype(np.float32)
        mixing = np.diag(factors.astype(np.float64))
        return cohort.replaced(ScaledMatrix(cohort.matrix, factors), mixing, cohort.weights), mixing
