"""A strict safetensors file: 8 bytes of header length, a JSON header, then the tensors' bytes.

The library's own reader lets pass what a server must not: duplicate keys, unknown fields, megabytes
of metadata, a hundred thousand empty tensors. Here the caller says exactly which tensors it expects,
and nothing else gets through. Any order of tensors is accepted as long as their bytes tile the file,
so files written by the `safetensors` library are read.

Files are written by hand, because the library writes metadata in an order that changes from run to
run, and equal content must give equal bytes: a digest is its name.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fed_compute.errors import UpdateMalformed, UpdateShapeMismatch, UpdateTensorMismatch
from fed_compute.protocol.strict_json import load_strict_json

Dtype = Literal["F32", "F16", "BF16", "I8", "U32"]
Body = bytes | bytearray | memoryview
Tensor = npt.NDArray[Any]

MAX_HEADER_BYTES = 2**20
MAX_METADATA_BYTES = 4096
_METADATA = "__metadata__"
_LENGTH = struct.Struct("<Q")
_RECORD_FIELDS = {"dtype", "shape", "data_offsets"}
_NUMPY: Mapping[Dtype, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16; its 16 bits travel as they are
    "I8": np.dtype("|i1"),
    "U32": np.dtype("<u4"),
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What one tensor of a file must be. BF16 lies in numpy as its raw 16 bits (uint16)."""

    dtype: Dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Length of the tensor's bytes."""
        return math.prod(self.shape) * _NUMPY[self.dtype].itemsize


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file: its metadata is checked, the records of its tensors are not looked at yet."""

    metadata: Mapping[str, str]
    records: Mapping[str, object]

    def offsets(self, expected: Mapping[str, TensorSpec], *, content_bytes: int) -> dict[str, int]:
        """Return where each of exactly the expected tensors begins in the `content_bytes` that follow the header.

        Raises:
            UpdateTensorMismatch: if the file has other names or another dtype.
            UpdateShapeMismatch: if a tensor has another shape.
            UpdateMalformed: if a record is not well formed, or the tensors do not tile the file's bytes.
        """
        if self.records.keys() != expected.keys():
            missing, unknown = sorted(expected.keys() - self.records), sorted(self.records.keys() - expected)
            raise UpdateTensorMismatch(
                f"missing tensors {missing[:5]}, unknown tensors {[name[:80] for name in unknown[:5]]}; "
                f"wanted exactly {sorted(expected)[:20]}"
            )
        offsets = {name: _checked_offset(name, self.records[name], spec) for name, spec in expected.items()}
        _require_tiling(offsets, expected, content_bytes)
        return offsets


@dataclass(frozen=True, slots=True)
class Container:
    """An opened file: its metadata is checked, its tensors are not looked at yet."""

    header: Header
    content: memoryview

    def tensors(self, expected: Mapping[str, TensorSpec]) -> dict[str, Tensor]:
        """Return exactly the expected tensors, as views into the file: no values are copied.

        Raises:
            As `Header.offsets`.
        """
        return tensors_at(
            self.header.offsets(expected, content_bytes=len(self.content)), specs=expected, content=self.content
        )


def tensors_at(
    offsets: Mapping[str, int], *, specs: Mapping[str, TensorSpec], content: memoryview
) -> dict[str, Tensor]:
    """Return the tensors that begin at checked offsets, as views into the content: no values are copied."""
    return {
        name: np.frombuffer(content, _NUMPY[spec.dtype], count=math.prod(spec.shape), offset=offsets[name]).reshape(
            spec.shape
        )
        for name, spec in specs.items()
    }


def container_data_bytes(specs: Mapping[str, TensorSpec]) -> int:
    """Return the length of all the tensors' bytes together, header not counted."""
    return sum(spec.num_bytes for spec in specs.values())


def write_container(
    tensors: Mapping[str, Tensor], *, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]
) -> bytes:
    """Write tensors, in the order of `specs`, as one safetensors file. Equal arguments give equal bytes.

    Raises:
        ValueError: if the tensors are not what `specs` say; the caller built both.
    """
    parts = []
    for name, spec in specs.items():
        tensor = np.ascontiguousarray(tensors[name], dtype=tensors[name].dtype.newbyteorder("<")).reshape(spec.shape)
        if tensor.dtype != _NUMPY[spec.dtype]:
            raise ValueError(f"tensor {name!r} is {tensor.dtype}, {spec.dtype} needs {_NUMPY[spec.dtype]}")
        parts.append(tensor.reshape(-1).data)
    return b"".join([_head(specs, metadata), *parts])


def complete_container(room: memoryview, *, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> memoryview:
    """Make a safetensors file of tensors that lie in memory as it wants them: nothing but the header is written.

    Their bytes, in the order of `specs`, little-endian, end `room`, which is writable; what lies before them is
    overwritten. Returned, read-only, is the part of `room` that is the file: the bytes that `write_container` gives.

    Raises:
        ValueError: if the header does not fit before them.
    """
    head = _head(specs, metadata)
    stop = len(room) - container_data_bytes(specs)
    if stop < len(head):
        raise ValueError(f"the header of {len(head)} bytes has room for {stop}")
    room[stop - len(head) : stop] = head
    return room[stop - len(head) :].toreadonly()


def _head(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """Return what stands before the tensors' bytes: the header's length, and the header."""
    header: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    offset = 0
    for name, spec in specs.items():
        header[name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + spec.num_bytes],
        }
        offset += spec.num_bytes
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)  # so that the tensors' bytes start at a multiple of 8
    return _LENGTH.pack(len(text)) + text


def open_container(body: Body, *, max_header_bytes: int = MAX_HEADER_BYTES) -> Container:
    """Read the header of a safetensors file. The tensors' bytes are neither read nor copied.

    Raises:
        UpdateMalformed: if it is not a header of at most `max_header_bytes`, in strict JSON, with
            metadata from text to text of at most 4096 bytes.
    """
    header, content = split_container(body, max_header_bytes=max_header_bytes)
    return Container(read_header(header), content)


def split_container(body: Body, *, max_header_bytes: int) -> tuple[bytes, memoryview]:
    """Return the header of a safetensors file, as it is written, and what follows it. Nothing is read yet.

    Raises:
        UpdateMalformed: if the file does not begin with the length of a header that fits.
    """
    view = memoryview(body).cast("B")
    length = header_length(view, max_header_bytes=max_header_bytes)
    if length > len(view) - _LENGTH.size:
        raise UpdateMalformed(f"the file announces a header of {length} bytes; the file has {len(view)} bytes in all")
    return bytes(view[_LENGTH.size : _LENGTH.size + length]), view[_LENGTH.size + length :]


def read_header(text: bytes) -> Header:
    """Read the header of a safetensors file.

    Raises:
        UpdateMalformed: if it is not strict JSON, with metadata from text to text of at most 4096 bytes.
    """
    header = load_strict_json(text, what="the safetensors header")
    if not isinstance(header, dict):
        raise UpdateMalformed(f"the safetensors header is a {type(header).__name__}, wanted an object")
    metadata = _checked_metadata(header.pop(_METADATA, {}))
    return Header(metadata, header)


def header_length(head: Body, *, max_header_bytes: int = MAX_HEADER_BYTES) -> int:
    """Return the length in bytes of a safetensors header, out of the file's first 8 bytes.

    Raises:
        UpdateMalformed: if there are fewer, or the header would have less than 2 or more than `max_header_bytes`.
    """
    view = memoryview(head).cast("B")
    if len(view) < _LENGTH.size:
        raise UpdateMalformed(f"the file has {len(view)} bytes, a safetensors file has at least {_LENGTH.size}")
    (length,) = _LENGTH.unpack_from(view)
    if not len("{}") <= length <= max_header_bytes:
        raise UpdateMalformed(
            f"the file announces a header of {length} bytes, a header here has 2 to {max_header_bytes}"
        )
    return int(length)


def _checked_metadata(metadata: object) -> Mapping[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UpdateMalformed(f"{_METADATA} must be an object from text to text")
    try:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair, which no text can hold
        raise UpdateMalformed(f"{_METADATA} holds text that is not Unicode") from error
    if size > MAX_METADATA_BYTES:
        raise UpdateMalformed(f"{_METADATA} has {size} bytes of text, at most {MAX_METADATA_BYTES} are taken")
    return metadata


def _checked_offset(name: str, record: object, spec: TensorSpec) -> int:
    """Return where the tensor's bytes begin, after the record has been found to be as expected."""
    if not isinstance(record, dict) or record.keys() != _RECORD_FIELDS:
        raise UpdateMalformed(f"the record of tensor {name[:80]!r} must have exactly {sorted(_RECORD_FIELDS)}")
    if record["dtype"] != spec.dtype:
        raise UpdateTensorMismatch(f"tensor {name[:80]!r} is {str(record['dtype'])[:20]!r}, wanted {spec.dtype}")
    shape, offsets = _whole_numbers(name, record["shape"]), _whole_numbers(name, record["data_offsets"])
    if shape != spec.shape:
        raise UpdateShapeMismatch(name, got=shape[:16], want=spec.shape)
    if len(offsets) != 2 or offsets[1] - offsets[0] != spec.num_bytes:
        raise UpdateMalformed(f"tensor {name[:80]!r} must lie at two offsets that are {spec.num_bytes} bytes apart")
    return offsets[0]


def _whole_numbers(name: str, numbers: object) -> tuple[int, ...]:
    if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise UpdateMalformed(f"shape and data_offsets of tensor {name[:80]!r} must be lists of whole numbers")
    return tuple(numbers)


def _require_tiling(offsets: Mapping[str, int], specs: Mapping[str, TensorSpec], content_bytes: int) -> None:
    """Refuse holes, overlaps and trailing bytes."""
    end = 0
    for name in sorted(offsets, key=lambda name: (offsets[name], specs[name].num_bytes)):
        if offsets[name] != end:
            raise UpdateMalformed(f"tensor {name[:80]!r} begins at byte {offsets[name]}, the one before ends at {end}")
        end += specs[name].num_bytes
    if end != content_bytes:
        raise UpdateMalformed(f"the tensors need {end} bytes, {content_bytes} bytes follow the header")
