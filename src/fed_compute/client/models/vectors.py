"""Between a torch module and the flat float32 vector that travels."""

import numpy as np
import torch
from torch import nn

from fed_compute.protocol.schema import ParameterSchema, Vector


def named_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the floating-point parameters and persistent buffers by their `state_dict` name.

    Whole-number buffers (counters) stay on the machine: their average means nothing.
    """
    return {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}


def load_vector(module: nn.Module, schema: ParameterSchema, vector: Vector) -> None:
    """Copy a flat vector, shape (P,), into the module's tensors, in place.

    Raises:
        UpdateShapeMismatch: if the vector is not of shape (P,). The module is left untouched.
    """
    pieces = schema.split(vector)
    tensors = named_tensors(module)
    with torch.no_grad():
        for name, piece in pieces.items():
            tensors[name].copy_(torch.from_numpy(np.array(piece, dtype=np.float32)))


def to_vector(module: nn.Module, schema: ParameterSchema) -> Vector:
    """Return the module's tensors as one new flat float32 vector, shape (P,), in the schema's order.

    Raises:
        UpdateTensorMismatch: if the module has other tensors than the schema.
        UpdateShapeMismatch: if a tensor has another shape than the schema says.
    """
    tensors = named_tensors(module)
    return schema.join({name: tensor.detach().cpu().float().numpy() for name, tensor in tensors.items()})
