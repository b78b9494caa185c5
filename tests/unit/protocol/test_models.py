"""A model as bytes, which clients take from strangers."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import ModelMalformed, UpdateShapeMismatch
from fed_compute.protocol.models import decode_model, encode_model
from fed_compute.protocol.schema import Parameter, ParameterSchema, draw_initial

SCHEMA = ParameterSchema(
    (Parameter("z.weight", (3, 2), "uniform", 1.0), Parameter("a.bias", (3,), "normal", 1.0), Parameter("scale", ()))
)
VECTOR = draw_initial(SCHEMA, seed=4)


def with_metadata(metadata: dict[str, str]) -> bytes:
    return safetensors.numpy.save(SCHEMA.split(VECTOR), metadata)


def test_a_model_is_read_back_to_the_bit_into_an_array_of_its_own() -> None:
    body = encode_model(VECTOR, SCHEMA)
    decoded = decode_model(body, SCHEMA)
    assert decoded.tobytes() == VECTOR.tobytes()
    decoded[0] = 9
    assert decode_model(memoryview(body), SCHEMA).tobytes() == VECTOR.tobytes()


def test_equal_vectors_give_equal_bytes() -> None:
    """The digest of the bytes is the version's name."""
    assert encode_model(VECTOR, SCHEMA) == encode_model(VECTOR.copy(), SCHEMA)


def test_the_bytes_after_the_header_are_the_vector_itself() -> None:
    assert encode_model(VECTOR, SCHEMA).endswith(VECTOR.tobytes())


def test_any_safetensors_tool_can_open_the_file() -> None:
    found = safetensors.numpy.load(encode_model(VECTOR, SCHEMA))
    for name, tensor in SCHEMA.split(VECTOR).items():
        np.testing.assert_array_equal(found[name], tensor)


def test_a_file_written_by_the_library_is_read() -> None:
    body = with_metadata({"format": "fed-compute", "schema": SCHEMA.digest()})
    assert decode_model(body, SCHEMA).tobytes() == VECTOR.tobytes()


def test_a_vector_of_another_length_is_not_written() -> None:
    with pytest.raises(UpdateShapeMismatch):
        encode_model(VECTOR[1:], SCHEMA)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"format": "pt", "schema": SCHEMA.digest()},
        {"format": "fed-compute", "schema": "0" * 64},
        {"format": "fed-compute", "schema": SCHEMA.digest(), "run": "me"},
    ],
)
def test_a_file_that_says_it_is_something_else_is_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(ModelMalformed, match="metadata"):
        decode_model(with_metadata(metadata), SCHEMA)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_that_is_not_finite_is_refused(value: float) -> None:
    vector = VECTOR.copy()
    vector[-1] = value
    with pytest.raises(ModelMalformed, match="NaN"):
        decode_model(encode_model(vector, SCHEMA), SCHEMA)


def test_another_model_is_refused() -> None:
    other = ParameterSchema((Parameter("z.weight", (2, 3)), *SCHEMA.parameters[1:]))
    with pytest.raises(ModelMalformed):
        decode_model(encode_model(VECTOR, other), SCHEMA)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_and_nothing_worse(body: bytes) -> None:
    with pytest.raises(ModelMalformed):
        decode_model(body, SCHEMA)


@given(st.data())
def test_changed_bytes_are_refused_or_a_finite_model(data: st.DataObject) -> None:
    body = bytearray(encode_model(VECTOR, SCHEMA))
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        vector = decode_model(bytes(body), SCHEMA)
    except ModelMalformed:
        return
    assert vector.shape == VECTOR.shape
    assert np.isfinite(vector).all()


def test_two_tensors_cannot_share_their_bytes() -> None:
    schema = ParameterSchema((Parameter("a", (2,)), Parameter("b", (2,))))
    record = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    metadata = {"format": "fed-compute", "schema": schema.digest()}
    text = json.dumps({"__metadata__": metadata, "a": record, "b": record}).encode()
    with pytest.raises(ModelMalformed, match="begins at byte"):
        decode_model(struct.pack("<Q", len(text)) + text + bytes(8), schema)


def test_the_longest_schema_that_is_allowed_still_fits_a_file() -> None:
    """Names, shapes and offsets at their longest: the header must stay within its limit."""
    count = 2**20 // (160 + 256)
    schema = ParameterSchema(tuple(Parameter(f"{i:0160}", (1,) * 16) for i in range(count)))
    vector = np.arange(schema.num_parameters, dtype=np.float32)
    assert decode_model(encode_model(vector, schema), schema).tobytes() == vector.tobytes()
