"""A model version as bytes: a safetensors file with the schema's named float32 tensors."""

import numpy as np

from fed_compute.errors import ModelMalformed, UpdateRefused
from fed_compute.protocol.container import Body, TensorSpec, open_container, write_container
from fed_compute.protocol.schema import ParameterSchema, Vector

_FORMAT = "fed-compute"


def encode_model(vector: Vector, schema: ParameterSchema) -> bytes:
    """Write a flat vector, float32 (P,), as a model file. Equal arguments give equal bytes.

    The tensors lie in the schema's order, so the bytes after the header are the vector itself.

    Raises:
        UpdateShapeMismatch: if the vector is not of shape (P,).
    """
    metadata = {"format": _FORMAT, "schema": schema.digest()}
    return write_container(schema.split(vector), specs=_specs(schema), metadata=metadata)


def decode_model(body: Body, schema: ParameterSchema) -> Vector:
    """Read a model file into a new flat vector, float32 (P,). Clients read hostile bytes with this too.

    Raises:
        ModelMalformed: if the bytes are not a model file with exactly the tensors of `schema`, all finite.
    """
    try:
        container = open_container(body)
        _require_metadata(dict(container.header.metadata), schema)
        vector = schema.join(container.tensors(_specs(schema)))
    except UpdateRefused as error:
        raise ModelMalformed(f"the model file cannot be used: {error.message}") from error
    if not np.isfinite(vector).all():
        raise ModelMalformed("the model file cannot be used: it holds NaN or an infinity")
    return vector


def _require_metadata(metadata: dict[str, str], schema: ParameterSchema) -> None:
    wanted = {"format": _FORMAT, "schema": schema.digest()}
    if metadata != wanted:
        raise ModelMalformed(f"the model file cannot be used: its metadata is {str(metadata)[:200]}, wanted {wanted}")


def _specs(schema: ParameterSchema) -> dict[str, TensorSpec]:
    return {parameter.name: TensorSpec("F32", parameter.shape) for parameter in schema.parameters}
