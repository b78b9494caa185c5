"""What a recipe implies: its parameter schema, and the largest files that it can mean."""

from fed_compute.errors import JobFileInvalid, ModelMismatch
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import Parameter, ParameterSchema
from fed_compute.protocol.updates import max_update_bytes

LOSSLESS = "f32"
"""The encoding that leaves nothing out."""

_HEADER_BYTES = 1 << 20
"""Room for a model file's header and metadata; the container reader refuses longer ones."""


def schema_of(recipe: Recipe) -> ParameterSchema:
    """Return the recipe's parameters as a schema, checked against the recipe's own digest.

    Raises:
        ModelMismatch: if the parameters are not a schema, or hash to another digest.
    """
    try:
        schema = ParameterSchema(tuple(Parameter(name, tuple(shape)) for name, shape in recipe.parameters))
    except JobFileInvalid as error:
        raise ModelMismatch(f"the recipe's parameter list cannot be used: {error.message}") from error
    if schema.digest() != recipe.schema_digest:
        raise ModelMismatch(
            f"the recipe's parameters hash to {schema.digest()}, the recipe says {recipe.schema_digest[:80]}"
        )
    return schema


def max_model_bytes(recipe: Recipe) -> int:
    """Return the largest size in bytes that the recipe's model file can have."""
    return _HEADER_BYTES + 8 + 4 * schema_of(recipe).num_parameters


def max_spooled_bytes(recipe: Recipe, *, num_parameters: int) -> int:
    """Return the largest size in bytes of an update of the recipe, with the vectors that it leaves behind."""
    num_vectors = (recipe.encoding != LOSSLESS) + (recipe.training.control_variates > 0)
    return _max_update_bytes(recipe, num_parameters=num_parameters) + 4 * num_vectors * num_parameters


def max_audited_bytes(recipe: Recipe) -> int:
    """Return the largest size in bytes that an update of the recipe can have."""
    return _max_update_bytes(recipe, num_parameters=schema_of(recipe).num_parameters)


def _max_update_bytes(recipe: Recipe, *, num_parameters: int) -> int:
    return max_update_bytes(
        num_parameters=num_parameters,
        encoding=recipe.encoding,
        compression=recipe.compression,
        topk_fraction=recipe.topk_fraction,
    )
