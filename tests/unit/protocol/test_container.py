"""The strict safetensors reader: what it takes, and that nothing else ever gets through."""

import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import (
    UpdateMalformed,
    UpdateRefused,
    UpdateShapeMismatch,
    UpdateTensorMismatch,
)
from fed_compute.protocol.container import MAX_HEADER_BYTES, TensorSpec, open_container, write_container

SPECS = {"a": TensorSpec("F32", (2, 3)), "b": TensorSpec("I8", (5,)), "c": TensorSpec("F32", ())}
TENSORS: dict[str, npt.NDArray[Any]] = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(5, dtype=np.int8),
    "c": np.array(7, dtype=np.float32),
}
ONE = {"a": TensorSpec("F32", (2,))}
RECORD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def written(metadata: dict[str, str] | None = None) -> bytes:
    return write_container(TENSORS, specs=SPECS, metadata=metadata or {"who": "me"})


def raw(header: Any, content: bytes = bytes(8)) -> bytes:
    """A file with any header, valid or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def test_what_is_written_is_read_back_without_a_copy() -> None:
    body = written()
    container = open_container(body)
    assert container.header.metadata == {"who": "me"}
    tensors = container.tensors(SPECS)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], tensor)
        assert tensors[name].shape == tensor.shape
        assert not tensors[name].flags.owndata


def test_the_library_reads_what_we_write() -> None:
    found = safetensors.numpy.load(written())
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_we_read_what_the_library_writes() -> None:
    """It sorts tensors in its own way; any order that tiles the file is fine."""
    tensors = open_container(safetensors.numpy.save(TENSORS, {"x": "y"})).tensors(SPECS)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], tensor)


def test_equal_content_gives_equal_bytes() -> None:
    many = {f"key{i}": "value" for i in range(20)}
    assert written(many) == written(dict(many))


def test_tensors_begin_at_a_multiple_of_eight() -> None:
    for size in range(9):
        (length,) = struct.unpack_from("<Q", written({"pad": "x" * size}))
        assert length % 8 == 0


def test_a_buffer_that_is_not_bytes_is_read_as_well() -> None:
    body = written()
    for buffer in (memoryview(body), bytearray(body), memoryview(bytearray(body))):
        np.testing.assert_array_equal(open_container(buffer).tensors(SPECS)["a"], TENSORS["a"])


HEADERS: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "0 bytes"),
    ("seven bytes", bytes(7), "7 bytes"),
    ("no header", bytes(8), "a header of 0 bytes"),
    ("a header longer than the file", struct.pack("<Q", 3) + b"{}", "header of 3 bytes"),
    ("the largest length", b"\xff" * 8 + b"{}", "header of 18446744073709551615 bytes"),
    ("over a megabyte", raw(b" " * (MAX_HEADER_BYTES + 1)), "2 to 1048576"),
    ("a list", raw([]), "is a list, wanted an object"),
    ("a number", raw(12), "is a int, wanted an object"),
    ("two keys alike", raw(b'{"a":1,"a":2}'), "comes twice"),
    ("NaN", raw(b'{"a":NaN}'), "NaN"),
    ("UTF-16", raw('{"a":1}'.encode("utf-16")), "not JSON"),
    ("brackets", raw(b"[" * 100_000), "nested too deeply"),
    ("metadata of numbers", raw({"__metadata__": {"a": 1}}), "text to text"),
    ("metadata in metadata", raw({"__metadata__": {"a": {"b": "c"}}}), "text to text"),
    ("metadata that is a list", raw({"__metadata__": []}), "text to text"),
    ("much metadata", raw({"__metadata__": {"a": "x" * 4096}}), "4097 bytes"),
    ("much metadata in few characters", raw({"__metadata__": {"a": "ä" * 2048}}), "4097 bytes"),
    ("half a surrogate pair", raw(b'{"__metadata__":{"a":"\\ud800"}}'), "not Unicode"),
]


@pytest.mark.parametrize(("body", "reason"), [case[1:] for case in HEADERS], ids=[case[0] for case in HEADERS])
def test_a_bad_header_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(UpdateMalformed, match=reason):
        open_container(body)


RECORDS: list[tuple[str, bytes, type[UpdateRefused], str]] = [
    ("none", raw({}), UpdateTensorMismatch, r"missing tensors \['a'\]"),
    ("another name", raw({"x": RECORD}), UpdateTensorMismatch, r"unknown tensors \['x'\]"),
    ("one more", raw({"a": RECORD, "../../x\0": RECORD}), UpdateTensorMismatch, r"unknown tensors"),
    ("no record", raw({"a": 1}), UpdateMalformed, "must have exactly"),
    ("a field less", raw({"a": {"dtype": "F32", "shape": [2]}}), UpdateMalformed, "must have exactly"),
    ("a field more", raw({"a": {**RECORD, "x": 1}}), UpdateMalformed, "must have exactly"),
    ("another dtype", raw({"a": {**RECORD, "dtype": "F64"}}), UpdateTensorMismatch, "is 'F64', wanted F32"),
    ("a dtype of no kind", raw({"a": {**RECORD, "dtype": ["\ud800"]}}), UpdateTensorMismatch, "wanted F32"),
    ("another shape", raw({"a": {**RECORD, "shape": [3]}}), UpdateShapeMismatch, r"\[3\].*\[2\]"),
    ("a shape with more dimensions", raw({"a": {**RECORD, "shape": [2, 1]}}), UpdateShapeMismatch, r"\[2, 1\]"),
    ("a million dimensions", raw({"a": {**RECORD, "shape": [1] * 300_000}}), UpdateShapeMismatch, r"\[1, 1"),
    ("a shape of booleans", raw({"a": {**RECORD, "shape": [True]}}), UpdateMalformed, "whole numbers"),
    ("a shape of floats", raw({"a": {**RECORD, "shape": [2.0]}}), UpdateMalformed, "whole numbers"),
    ("a shape of text", raw({"a": {**RECORD, "shape": "2"}}), UpdateMalformed, "whole numbers"),
    ("a negative dimension", raw({"a": {**RECORD, "shape": [-2]}}), UpdateMalformed, "whole numbers"),
    ("an endless dimension", raw({"a": {**RECORD, "shape": [10**400]}}), UpdateMalformed, "whole numbers"),
    ("three offsets", raw({"a": {**RECORD, "data_offsets": [0, 4, 8]}}), UpdateMalformed, "8 bytes apart"),
    ("offsets too near", raw({"a": {**RECORD, "data_offsets": [0, 4]}}), UpdateMalformed, "8 bytes apart"),
    ("offsets backwards", raw({"a": {**RECORD, "data_offsets": [8, 0]}}), UpdateMalformed, "8 bytes apart"),
    ("a hole before", raw({"a": {**RECORD, "data_offsets": [4, 12]}}, bytes(12)), UpdateMalformed, "begins at byte 4"),
    ("bytes behind", raw({"a": RECORD}, bytes(9)), UpdateMalformed, "9 bytes follow"),
    ("bytes missing", raw({"a": RECORD}, bytes(7)), UpdateMalformed, "7 bytes follow"),
    ("offsets beyond", raw({"a": {**RECORD, "data_offsets": [2**62, 2**62 + 8]}}), UpdateMalformed, "begins at byte"),
]


@pytest.mark.parametrize(("body", "error", "reason"), [case[1:] for case in RECORDS], ids=[case[0] for case in RECORDS])
def test_a_tensor_that_is_not_as_expected_is_refused_with_the_reason(
    body: bytes, error: type[UpdateRefused], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        open_container(body).tensors(ONE)


@pytest.mark.parametrize("offsets", [([0, 8], [0, 8]), ([0, 8], [4, 12]), ([0, 8], [12, 20]), ([8, 16], [8, 16])])
def test_tensors_neither_overlap_nor_leave_holes(offsets: tuple[list[int], list[int]]) -> None:
    header = {name: {**RECORD, "data_offsets": at} for name, at in zip("ab", offsets, strict=True)}
    with pytest.raises(UpdateMalformed, match="begins at byte"):
        open_container(raw(header, bytes(16))).tensors({**ONE, "b": ONE["a"]})


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_and_nothing_worse(body: bytes) -> None:
    with pytest.raises(UpdateRefused):
        open_container(body).tensors(SPECS)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists), st.binary())
def test_any_json_as_a_record_is_refused_and_nothing_worse(record: Any, content: bytes) -> None:
    with pytest.raises(UpdateRefused):
        open_container(raw({"a": {"dtype": "F32", "shape": record, "data_offsets": record}}, content)).tensors(ONE)


@given(st.data())
def test_a_changed_byte_is_refused_or_only_changes_values(data: st.DataObject) -> None:
    """Whatever comes back has the expected names, dtypes and shapes."""
    body = bytearray(written())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)) | st.just(len(body)))
    try:
        tensors = open_container(bytes(body[:cut])).tensors(SPECS)
    except UpdateRefused:
        return
    assert {name: (t.dtype, t.shape) for name, t in tensors.items()} == {
        name: (t.dtype, t.shape) for name, t in TENSORS.items()
    }


def test_a_file_cut_anywhere_is_refused() -> None:
    body = written()
    for length in range(len(body)):
        with pytest.raises(UpdateRefused):
            open_container(body[:length]).tensors(SPECS)


def test_a_hundred_thousand_empty_tensors_cost_little() -> None:
    """The library takes them all; here the header's length alone refuses them."""
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    body = raw({f"t{i}": empty for i in range(100_000)}, b"")
    tracemalloc.start()
    with pytest.raises(UpdateMalformed):
        open_container(body)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_a_writer_that_contradicts_itself_is_told() -> None:
    with pytest.raises(ValueError, match="float64"):
        write_container({"a": np.zeros(2)}, specs=ONE, metadata={})
