"""Parameters of many clients as rows of one matrix, and each parameter of the model as a view of it."""

import torch

from fed_compute.protocol.schema import ParameterSchema
from fed_compute.simulator.cohort.gradients import Stacks


class ParameterRows:
    """Rows (k, P) that begin as the parameters that all start from, and end as what each client's training added.

    They are trained where the results are to lie, so that each value has one place in the cache and not two. Only
    kernels of convolutions lie apart meanwhile, with their channels last, if that is asked for: so they run fastest.
    """

    def __init__(self, schema: ParameterSchema, *, channels_last: bool) -> None:
        self._shapes = [parameter.shape for parameter in schema.parameters]
        self._sizes = [parameter.size for parameter in schema.parameters]
        self._apart = [place for place, shape in enumerate(self._shapes) if channels_last and len(shape) == 4]

    def begin(self, rows: torch.Tensor, base: torch.Tensor) -> list[torch.Tensor]:
        """Set each row to `base`, shape (P,), and return the stacks to be trained: (k, …) for each parameter."""
        rows.copy_(base)
        stacks = self.stacks(rows)
        for place in self._apart:
            stacks[place] = _channels_last(stacks[place])
        return stacks

    def end(self, rows: torch.Tensor, base: torch.Tensor, trained: Stacks) -> None:
        """Set each row to what was `trained` minus `base`."""
        if self._apart:
            stacks = self.stacks(rows)
            for place in self._apart:
                stacks[place].copy_(trained[place])
        rows.sub_(base)

    def stacks(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Return the model's parameters as views of vectors, shape (…, P): (…, its shape) for each."""
        parts = torch.split(rows, self._sizes, dim=-1)
        return [part.view(*rows.shape[:-1], *shape) for part, shape in zip(parts, self._shapes, strict=True)]


def _channels_last(kernels: torch.Tensor) -> torch.Tensor:
    """Return a copy of kernels, shape (k, O, I, H, W), that lies in memory as (k, O, H, W, I)."""
    return kernels.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
