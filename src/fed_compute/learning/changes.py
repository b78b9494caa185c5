"""How two models of one schema differ, tensor by tensor."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one tensor. Norms are L2; `cosine` is that of before and after, None if one of them is zero.

    `largest` is the largest absolute change of one value, at the index `largest_at`.
    """

    name: str
    size: int
    norm_before: float
    norm_after: float
    norm_of_change: float
    cosine: float | None
    largest: float
    largest_at: tuple[int, ...]

    @property
    def relative(self) -> float | None:
        """The norm of the change in norms of what was before; None if that is zero."""
        return self.norm_of_change / self.norm_before if self.norm_before else None


def changes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[Change]:
    """Compare the tensors of one model with those of another that has the same names and shapes, in float64.

    Cost: one pass over each tensor, with three copies of the largest one.
    """
    return [change(name, before[name], after[name]) for name in before]


def change(name: str, before: Tensor, after: Tensor) -> Change:
    """Compare two tensors of the same shape, in float64."""
    old, new = before.astype(np.float64).ravel(), after.astype(np.float64).ravel()
    moved = new - old
    place = int(np.abs(moved).argmax())
    norms = float(np.linalg.norm(old)), float(np.linalg.norm(new))
    return Change(
        name=name,
        size=old.size,
        norm_before=norms[0],
        norm_after=norms[1],
        norm_of_change=float(np.linalg.norm(moved)),
        cosine=float(np.clip(old @ new / (norms[0] * norms[1]), -1.0, 1.0)) if all(norms) else None,
        largest=float(abs(moved[place])),
        largest_at=tuple(int(i) for i in np.unravel_index(place, before.shape)),
    )
