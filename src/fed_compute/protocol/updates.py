"""One update as bytes: a safetensors file with the values and what the sender says about them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import zstandard

from fed_compute.errors import (
    LossInvalid,
    SampleCountInvalid,
    StepCountInvalid,
    UpdateEncodingMismatch,
    UpdateMalformed,
    UpdateTensorMismatch,
)
from fed_compute.protocol.container import (
    Body,
    TensorSpec,
    complete_container,
    container_data_bytes,
    header_length,
    read_header,
    split_container,
    tensors_at,
    write_container,
)
from fed_compute.protocol.encodings import encoding_named
from fed_compute.protocol.job import MAX_NUM_STEPS, Compression, Encoding
from fed_compute.protocol.messages import MAX_LOSS, MAX_NUM_SAMPLES
from fed_compute.protocol.schema import Vector

MAX_UPDATE_HEADER_BYTES = 8192
"""The longest header of an update. A header written here has about 300 bytes."""

MAX_TRAIN_SECONDS = 1e7
"""The longest training that is believed: about four months."""

MAX_EXPANSION = 1_000
"""How many times its own length a zstd body may become. One value of a thousand is the sparsest that is sent whole."""

ROOM_BYTES = 512
"""Before the values of an `f32` update this much is enough for its header."""

HEAD_BYTES = 18
"""The first bytes of a body, by which it is judged before the rest has come: the longest zstd frame header."""

REMEMBERED_HEADS = 2_048
"""Headers that are remembered, of 1 kB as a rule and at most of 8."""

_FORMAT = "fed-compute-update"
_REQUIRED = {"format", "encoding", "schema", "num_samples"}
_OPTIONAL = {"loss", "train_seconds", "num_steps"}
_COUNT = re.compile(r"[1-9][0-9]{0,10}", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class DecodedUpdate:
    """What an update says. `delta` is float32 (P,), perhaps a read-only view of the body; values are unchecked."""

    delta: Vector
    num_samples: int
    loss: float | None
    train_seconds: float | None
    num_steps: int | None


def encode_update(
    delta: Vector,
    *,
    encoding: Encoding,
    compression: Compression,
    topk_fraction: float,
    schema_digest: str,
    num_samples: int,
    loss: float | None,
    train_seconds: float | None,
    rng: np.random.Generator | None,
    num_steps: int | None = None,
) -> bytes:
    """Write an update of `delta`, float32 (P,), trained minus base parameters.

    Equal arguments give equal bytes, with `zstd` for one version of the library. `rng` is what a rounding encoding
    draws from; None is for the others.

    Raises:
        SampleCountInvalid: if `num_samples` is outside 1 to 10 000 000.
        LossInvalid: if `loss` is outside 0 to 1 000 000.
        UpdateMalformed: if `train_seconds` is outside 0 to 10 000 000.
        StepCountInvalid: if `num_steps` is outside 1 to 10 000 000 000.
        UpdateNotFinite: if a lossy encoding meets NaN or an infinity.
        ValueError: if a rounding encoding has nothing to draw from.
    """
    metadata = _metadata(encoding, schema_digest, num_samples, loss, train_seconds, num_steps)
    writer = encoding_named(encoding, topk_fraction=topk_fraction)
    body = write_container(writer.tensors(delta, rng), specs=writer.expected(delta.size), metadata=metadata)
    return zstandard.ZstdCompressor().compress(body) if compression == "zstd" else body


def complete_update(
    room: memoryview,
    *,
    num_parameters: int,
    schema_digest: str,
    num_samples: int,
    loss: float | None,
    train_seconds: float | None,
    num_steps: int | None = None,
) -> memoryview:
    """Make an uncompressed `f32` update around values that lie in memory: the bytes of `encode_update`, uncopied.

    `room` is writable and ends with the values, float32 (P,), little-endian; the `ROOM_BYTES` before them are
    overwritten. Returned is the part of it that is the update.

    Raises:
        As `encode_update`.
        ValueError: if there is less room.
    """
    metadata = _metadata("f32", schema_digest, num_samples, loss, train_seconds, num_steps)
    writer = encoding_named("f32", topk_fraction=1.0)
    return complete_container(room, specs=writer.expected(num_parameters), metadata=metadata)


def _metadata(
    encoding: Encoding,
    schema_digest: str,
    num_samples: int,
    loss: float | None,
    train_seconds: float | None,
    num_steps: int | None,
) -> dict[str, str]:
    """Return what an update says beside its values, as it is written."""
    if not 1 <= num_samples <= MAX_NUM_SAMPLES:
        raise SampleCountInvalid(num_samples, limit=MAX_NUM_SAMPLES)
    metadata = {"format": _FORMAT, "encoding": encoding, "schema": schema_digest, "num_samples": str(num_samples)}
    if loss is not None:
        metadata["loss"] = repr(float(loss))
    if train_seconds is not None:
        metadata["train_seconds"] = repr(float(train_seconds))
    if num_steps is not None:
        metadata["num_steps"] = str(num_steps)
    _parse_numbers(metadata)
    return metadata


def decode_update(
    body: Body,
    *,
    num_parameters: int,
    schema_digest: str,
    encoding: Encoding,
    compression: Compression,
    topk_fraction: float,
) -> DecodedUpdate:
    """Read an update as the recipe says it must be. The values themselves are not judged.

    Memory: nothing for `f32` (a view of `body`); one vector for the others; with `zstd` one
    uncompressed file more, never longer than `max_container_bytes`. Time: an update that was read
    lately takes 5 µs and what its encoding needs, any other 15 µs.

    Raises:
        UpdateMalformed: if it cannot be read at all.
        UpdateEncodingMismatch: if it is encoded otherwise.
        UpdateTensorMismatch: if it is for another model, or has other tensors.
        UpdateShapeMismatch: if a tensor has another shape.
        SampleCountInvalid: if `num_samples` is not a whole number from 1 to 10 000 000.
        LossInvalid: if the loss is not a number from 0 to 1 000 000.
        StepCountInvalid: if `num_steps` is there and not a whole number from 1 to 10 000 000 000.
    """
    reader = encoding_named(encoding, topk_fraction=topk_fraction)
    if compression == "zstd":
        limit = max_container_bytes(num_parameters=num_parameters, encoding=encoding, topk_fraction=topk_fraction)
        body = _decompress(body, limit=limit)
    header, content = split_container(body, max_header_bytes=MAX_UPDATE_HEADER_BYTES)
    head = _read_head(header, len(content), num_parameters, schema_digest, encoding, topk_fraction)
    tensors = tensors_at(head.offsets, specs=head.specs, content=content)
    return DecodedUpdate(
        delta=reader.delta(tensors, num_parameters=num_parameters),
        num_samples=head.num_samples,
        loss=head.loss,
        train_seconds=head.train_seconds,
        num_steps=head.num_steps,
    )


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands before the values of an update, checked."""

    num_samples: int
    loss: float | None
    train_seconds: float | None
    num_steps: int | None
    specs: Mapping[str, TensorSpec]
    offsets: Mapping[str, int]


@lru_cache(maxsize=REMEMBERED_HEADS)
def _read_head(
    header: bytes,
    content_bytes: int,
    num_parameters: int,
    schema_digest: str,
    encoding: Encoding,
    topk_fraction: float,
) -> _Head:
    """Check a header, and remember the answer: an update is read when it is accepted and again when it is folded."""
    found = read_header(header)
    _require_metadata(found.metadata, schema_digest=schema_digest, encoding=encoding)
    numbers = _parse_numbers(found.metadata)
    specs = encoding_named(encoding, topk_fraction=topk_fraction).expected(num_parameters)
    return _Head(*numbers, specs, found.offsets(specs, content_bytes=content_bytes))


def max_container_bytes(*, num_parameters: int, encoding: Encoding, topk_fraction: float) -> int:
    """Return the length of the longest legal uncompressed update of a recipe."""
    specs = encoding_named(encoding, topk_fraction=topk_fraction).expected(num_parameters)
    return 8 + MAX_UPDATE_HEADER_BYTES + container_data_bytes(specs)


def max_update_bytes(*, num_parameters: int, encoding: Encoding, compression: Compression, topk_fraction: float) -> int:
    """Return the length of the longest legal body of a recipe: the limit for `Content-Length`."""
    plain = max_container_bytes(num_parameters=num_parameters, encoding=encoding, topk_fraction=topk_fraction)
    # ZSTD_COMPRESSBOUND, with its extra term for short inputs always counted
    return plain + (plain >> 8) + 64 if compression == "zstd" else plain


def min_update_bytes(*, num_parameters: int, encoding: Encoding, compression: Compression, topk_fraction: float) -> int:
    """Return a length in bytes that no legal body of a recipe goes below."""
    specs = encoding_named(encoding, topk_fraction=topk_fraction).expected(num_parameters)
    plain = 8 + 2 + container_data_bytes(specs)
    return plain // MAX_EXPANSION if compression == "zstd" else plain


def check_head(
    head: bytes,
    *,
    total_bytes: int | None,
    num_parameters: int,
    encoding: Encoding,
    compression: Compression,
    topk_fraction: float,
) -> None:
    """Judge a body by its first `HEAD_BYTES`, or by the whole of a shorter one, before the rest is read.

    `total_bytes` is the length of the whole body, None if it is not known yet.

    Raises:
        UpdateMalformed: if the header's length does not fit the body's, or a zstd frame does not say a size
            that is within the recipe's and at most 1000 times the body's.
    """
    limit = max_container_bytes(num_parameters=num_parameters, encoding=encoding, topk_fraction=topk_fraction)
    if compression == "zstd":
        size = _frame_size(head, limit=limit)
        if total_bytes is not None and size > total_bytes * MAX_EXPANSION:
            raise UpdateMalformed(
                f"{total_bytes} bytes would become {size}, at most {MAX_EXPANSION} times as many are taken; "
                "so sparse an update belongs into the encoding topk"
            )
        return
    header_bytes = header_length(head, max_header_bytes=MAX_UPDATE_HEADER_BYTES)
    wanted = limit - MAX_UPDATE_HEADER_BYTES + header_bytes
    if total_bytes is not None and total_bytes != wanted:
        raise UpdateMalformed(
            f"the body has {total_bytes} bytes; an update of {num_parameters} values in {encoding}, "
            f"with a header of {header_bytes} bytes, has {wanted}"
        )


def _decompress(body: Body, *, limit: int) -> bytes:
    """Undo one zstd frame that says its size, which must be within `limit`; that much is allocated and no more."""
    _frame_size(body, limit=limit)
    try:
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise UpdateMalformed(f"the body is not one whole zstd frame: {str(error)[:100]}") from error


def _frame_size(head: Body, *, limit: int) -> int:
    """Return the size that a zstd frame says it will have once it is undone."""
    try:
        size = zstandard.get_frame_parameters(head).content_size
    except zstandard.ZstdError as error:
        raise UpdateMalformed(f"the body is not one whole zstd frame: {str(error)[:100]}") from error
    if size == zstandard.CONTENTSIZE_UNKNOWN or size > limit:
        said = "does not say its size" if size == zstandard.CONTENTSIZE_UNKNOWN else f"says {size} bytes"
        raise UpdateMalformed(f"the zstd frame {said}; wanted one frame that says at most {limit} bytes")
    return size


def _require_metadata(metadata: Mapping[str, str], *, schema_digest: str, encoding: Encoding) -> None:
    missing, unknown = sorted(_REQUIRED - metadata.keys()), sorted(metadata.keys() - _REQUIRED - _OPTIONAL)
    if missing or unknown:
        raise UpdateMalformed(
            f"metadata: missing {missing}, unknown {[key[:80] for key in unknown[:5]]}; "
            f"wanted {sorted(_REQUIRED)} and perhaps {sorted(_OPTIONAL)}"
        )
    if metadata["format"] != _FORMAT:
        raise UpdateMalformed(f"metadata: format is {metadata['format'][:40]!r}, wanted {_FORMAT!r}")
    if metadata["encoding"] != encoding:
        raise UpdateEncodingMismatch(got=metadata["encoding"], want=encoding)
    if metadata["schema"] != schema_digest:
        raise UpdateTensorMismatch(
            f"the update is for parameters of digest {metadata['schema'][:64]!r}, this job's have {schema_digest!r}"
        )


def _parse_numbers(metadata: Mapping[str, str]) -> tuple[int, float | None, float | None, int | None]:
    """Return num_samples, loss, train_seconds and num_steps."""
    loss = seconds = num_steps = None
    if (num_samples := _count_up_to(MAX_NUM_SAMPLES, metadata["num_samples"])) is None:
        raise SampleCountInvalid(repr(metadata["num_samples"]), limit=MAX_NUM_SAMPLES)
    if "num_steps" in metadata and (num_steps := _count_up_to(MAX_NUM_STEPS, metadata["num_steps"])) is None:
        raise StepCountInvalid(repr(metadata["num_steps"]), least=1, limit=MAX_NUM_STEPS)
    if "loss" in metadata and (loss := _number_up_to(MAX_LOSS, metadata["loss"])) is None:
        raise LossInvalid(repr(metadata["loss"]), limit=MAX_LOSS)
    if "train_seconds" in metadata and (seconds := _number_up_to(MAX_TRAIN_SECONDS, metadata["train_seconds"])) is None:
        raise UpdateMalformed(
            f"metadata: train_seconds is {metadata['train_seconds'][:40]!r}, "
            f"wanted a plain decimal number from 0 to {MAX_TRAIN_SECONDS:g}"
        )
    return num_samples, loss, seconds, num_steps


def _count_up_to(limit: int, text: str) -> int | None:
    """Return the whole number from 1 to `limit` that a text is, None if it is none."""
    return int(text) if _COUNT.fullmatch(text) is not None and int(text) <= limit else None


def _number_up_to(limit: float, text: str) -> float | None:
    """Return the number from 0 to `limit` that a text is, None if it is none."""
    if len(text) > 40 or _NUMBER.fullmatch(text) is None or not 0 <= float(text) <= limit:
        return None
    return abs(float(text))  # -0 is 0
