"""Error feedback: what a lossy encoding leaves out of one update is added to the next."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from fed_compute.learning.vectors import Vector, require_finite, require_shape


@dataclass(frozen=True, slots=True)
class Residual:
    """The part of all earlier updates that was not sent yet, float32 (P,). One per client and job.

    Source: Seide et al. 2014; Karimireddy et al. 2019 (arXiv:1901.09847). Over any number of
    rounds, sent + residual equals what was trained, up to float32 rounding.
    """

    unsent: Vector

    @classmethod
    def initial(cls, num_parameters: int) -> Self:
        """Return the residual before the first update: zeros."""
        return cls(np.zeros(num_parameters, dtype=np.float32))

    def compensate(self, delta: Vector) -> Vector:
        """Return what should be sent now: the new update plus what is still unsent, float32 (P,), a new array.

        Raises:
            UpdateShapeMismatch: if `delta` is not of shape (P,).
        """
        require_shape(delta, self.unsent.size, what="delta")
        with np.errstate(over="ignore"):  # the encoder refuses what overflows
            return delta + self.unsent

    def keep(self, wanted: Vector, sent: Vector) -> Self:
        """Return the residual after `wanted` was given to the encoder and `sent` is what it decodes to.

        Keep it only once the update was accepted; otherwise go on with the old residual.

        Raises:
            UpdateShapeMismatch: if a vector is not of shape (P,).
            UpdateNotFinite: if the difference is not finite; the old residual stays usable.
        """
        require_shape(wanted, self.unsent.size, what="wanted")
        require_shape(sent, self.unsent.size, what="sent")
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
            unsent = wanted - sent
        require_finite(unsent)
        return type(self)(unsent)
