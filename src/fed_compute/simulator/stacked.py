"""Many models of one shape trained side by side: one call gives the gradients of all clients of all runs."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from fed_compute.protocol.schema import ParameterSchema

Stack = npt.NDArray[np.float32]
"""Shape (R, P), float32: one vector in each row."""
Stacks = npt.NDArray[np.float32]
"""Shape (R, n, P), float32: a vector of each client in each run."""
_Tensors = dict[str, torch.Tensor]
_RUNS_AT_ONCE = 16
"""As many runs as keep the intermediate results of a small model in the cache of one core."""


class StackedModel:
    """One module applied with many parameter vectors at once.

    A run has one global vector, shape (P,), and n clients who all start from it. The module must compute each
    sample alone, without a random choice: linear layers, convolutions, layer norm, but no dropout in use.
    """

    def __init__(self, module: nn.Module, schema: ParameterSchema) -> None:
        self._module = module
        self._schema = schema
        self._gradient: Callable[..., _Tensors] = vmap(
            vmap(grad(self._loss), in_dims=(None, 0, 0)), in_dims=(0, None, 0)
        )

    def gradients(self, vectors: Stack, inputs: torch.Tensor, classes: torch.Tensor) -> Stacks:
        """Return the gradient of the mean cross-entropy of each client's batch, shape (R, n, P), float32.

        `vectors` has shape (R, P), `inputs` (n, B, …), the same in all runs, `classes` (R, n, B).
        Memory: the result, and the intermediate results of a few runs.
        """
        parts = [
            self._gradients(vectors[start : start + _RUNS_AT_ONCE], inputs, classes[start : start + _RUNS_AT_ONCE])
            for start in range(0, len(vectors), _RUNS_AT_ONCE)
        ]
        return np.concatenate(parts)

    def accuracies(self, vectors: Stack, inputs: torch.Tensor, classes: torch.Tensor) -> npt.NDArray[np.float64]:
        """Return the percentage of samples that each vector classifies rightly, shape (R,).

        `vectors` has shape (R, P), `inputs` (N, …), `classes` (N,). A vector that is not finite gets what its
        outputs say, which is chance at best.
        """
        with torch.no_grad():
            outputs = vmap(self._outputs, in_dims=(0, None))(self._tensors(vectors), inputs)
        right: npt.NDArray[np.bool_] = (outputs.argmax(dim=2) == classes).numpy()
        percent: npt.NDArray[np.float64] = 100.0 * right.mean(axis=1)
        return percent

    def _gradients(self, vectors: Stack, inputs: torch.Tensor, classes: torch.Tensor) -> Stacks:
        tensors = self._gradient(self._tensors(vectors), inputs, classes)
        flat = [tensors[parameter.name].flatten(2) for parameter in self._schema.parameters]
        joined: Stacks = torch.cat(flat, dim=2).numpy()
        return joined

    def _tensors(self, vectors: Stack) -> _Tensors:
        """Cut vectors, shape (R, P), into tensors, each (R, …); views, not copies."""
        stack, tensors, offset = torch.from_numpy(vectors), {}, 0
        for parameter in self._schema.parameters:
            piece = stack[:, offset : offset + parameter.size]
            tensors[parameter.name] = piece.reshape(len(vectors), *parameter.shape)
            offset += parameter.size
        return tensors

    def _outputs(self, tensors: _Tensors, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = functional_call(self._module, tensors, (inputs,))
        return outputs

    def _loss(self, tensors: _Tensors, inputs: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self._outputs(tensors, inputs), classes)
