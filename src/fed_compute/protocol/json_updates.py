"""The JSON form of an update: nested lists of numbers, as `POST /update` documents it.

Three spellings mean the same: `{name: nested list}`; a list of arrays, flat or nested, in parameter
order; and either of them under the key `weight_delta` of an object, beside some known other keys.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from fed_compute.errors import (
    LossInvalid,
    SampleCountInvalid,
    UpdateMalformed,
    UpdateNotFinite,
    UpdateShapeMismatch,
    UpdateTensorMismatch,
)
from fed_compute.protocol.messages import MAX_LOSS, MAX_NUM_SAMPLES
from fed_compute.protocol.schema import Parameter, ParameterSchema, Vector
from fed_compute.protocol.strict_json import load_strict_json

MAX_DEPTH = 16
"""The deepest nesting of lists in an update."""

JSON_BYTES_PER_VALUE = 64
"""Room for one number of an update in JSON: the longest float64, with indentation."""

_Values = dict[str, object] | list[object]
_Array = npt.NDArray[np.float64]

_DELTA = "weight_delta"
_BESIDE = {
    "client_id",
    "round_id",
    "model_version",
    "model_config",
    "training_config",
    "final_loss",
    "num_samples",
}
"""Keys that may stand beside `weight_delta`. Only `num_samples` and `final_loss` are read."""


@dataclass(frozen=True, slots=True)
class UpdateExtras:
    """What the JSON text itself said beside the values; None where it said nothing."""

    num_samples: int | None = None
    final_loss: float | None = None


def parse_weight_delta(
    weight_delta: str | _Values, schema: ParameterSchema, *, max_text_bytes: int
) -> tuple[Vector, UpdateExtras]:
    """Read the JSON form of an update into a flat float32 vector, shape (P,), all finite.

    A text longer than `max_text_bytes` in UTF-8 is refused before it is read: reading can take
    twenty times its length in memory. Plain JSON (dict, list) was read already; its caller capped it.

    Raises:
        UpdateMalformed: if it is no such JSON, too long, ragged, too deep, or has something that is not a number.
        UpdateTensorMismatch: if tensors are missing, unknown, or too few or many.
        UpdateShapeMismatch: if a tensor has another shape.
        UpdateNotFinite: if a value is NaN, infinite, or too large for float32.
        SampleCountInvalid: if `num_samples` is there and not a whole number from 1 to 10 000 000.
        LossInvalid: if `final_loss` is there and not a number from 0 to 1 000 000.
    """
    document = _load(weight_delta, max_text_bytes) if isinstance(weight_delta, str) else weight_delta
    values, extras = _unwrap(document, schema)
    vector = np.concatenate(_arrays(values, schema))
    with np.errstate(over="ignore"):  # what overflows is refused below
        narrow = vector.astype("<f4")
    finite = np.isfinite(narrow)
    if not finite.all():
        raise UpdateNotFinite(count=int((~finite).sum()), first=int(np.argmin(finite)))
    return narrow, extras


def _load(text: str, max_text_bytes: int) -> object:
    # surrogates cannot be encoded; they count as three bytes here and are refused as unknown names later
    size = len(text) if len(text) > max_text_bytes else len(text.encode("utf-8", "surrogatepass"))
    if size > max_text_bytes:
        raise UpdateMalformed(
            f"weight_delta has {size} bytes of JSON, the limit is {max_text_bytes}; send larger updates as safetensors"
        )
    return load_strict_json(text, what="weight_delta", non_finite=True)


def _unwrap(document: object, schema: ParameterSchema) -> tuple[_Values, UpdateExtras]:
    """Take the values out of the object that may hold them under `weight_delta`."""
    extras = UpdateExtras()
    names = {parameter.name for parameter in schema.parameters}
    if isinstance(document, dict) and _DELTA in document and document.keys() != names:
        unknown = sorted(str(key)[:80] for key in document.keys() - _BESIDE - {_DELTA})
        if unknown:
            raise UpdateMalformed(f"unknown keys {unknown[:5]} beside {_DELTA}; known are {sorted(_BESIDE)}")
        extras = UpdateExtras(_num_samples(document.get("num_samples")), _final_loss(document.get("final_loss")))
        document = document[_DELTA]
    if not isinstance(document, dict | list):
        raise UpdateMalformed(f"weight_delta is {_kind(document)}, wanted an object of tensors or a list of arrays")
    return document, extras


def _num_samples(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int:
        raise SampleCountInvalid(_kind(value), limit=MAX_NUM_SAMPLES)
    if not 1 <= value <= MAX_NUM_SAMPLES:
        raise SampleCountInvalid("too large" if value > 0 else "below 1", limit=MAX_NUM_SAMPLES)
    return value


def _final_loss(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_LOSS:
        return float(value)
    raise LossInvalid(_kind(value), limit=MAX_LOSS)


def _arrays(values: _Values, schema: ParameterSchema) -> list[_Array]:
    """Return one array for each parameter, in the schema's order and of its size."""
    parameters = schema.parameters
    if isinstance(values, dict):
        names = {parameter.name for parameter in parameters}
        missing, unknown = sorted(names - values.keys()), sorted(str(key)[:80] for key in values.keys() - names)
        if missing or unknown:
            raise UpdateTensorMismatch(
                f"missing tensors {missing[:5]}, unknown tensors {unknown[:5]}; the model has {sorted(names)[:20]}"
            )
        return [_array(parameter, values[parameter.name], flat_too=False) for parameter in parameters]
    if len(values) != len(parameters):
        raise UpdateTensorMismatch(f"weight_delta lists {len(values)} arrays, the model has {len(parameters)} tensors")
    return [_array(parameter, value, flat_too=True) for parameter, value in zip(parameters, values, strict=True)]


def _array(parameter: Parameter, value: object, *, flat_too: bool) -> _Array:
    """Return the numbers of a nested list, level by level so that no depth can exhaust the stack."""
    shape: tuple[int, ...] = ()
    level = [value]
    while level and isinstance(level[0], list):
        if len(shape) == MAX_DEPTH:
            raise UpdateMalformed(f"tensor {parameter.name!r} is nested more than {MAX_DEPTH} deep")
        shape = (*shape, len(level[0]))
        if any(not isinstance(item, list) or len(item) != shape[-1] for item in level):
            raise UpdateMalformed(f"tensor {parameter.name!r} is ragged: its lists differ in length or depth")
        level = list(chain.from_iterable(level))  # type: ignore[arg-type]
    for kind in set(map(type, level)) - {int, float}:
        found = next(item for item in level if type(item) is kind)
        raise UpdateMalformed(f"tensor {parameter.name!r} holds {_kind(found)}, wanted numbers only")
    if shape != parameter.shape and not (flat_too and shape == (parameter.size,)):
        raise UpdateShapeMismatch(parameter.name, got=shape, want=parameter.shape)
    try:
        return np.array(level, dtype=np.float64)
    except OverflowError as error:
        raise UpdateMalformed(f"tensor {parameter.name!r} holds a number too large for any float") from error


def _kind(value: object) -> str:
    """Name a JSON value for an error, without repeating it."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a text"
        case int() | float():
            return "a number out of range"
        case dict():
            return "an object"
        case _:
            return "a list"
