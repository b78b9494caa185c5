"""An update as bytes: the whole form, and everything that is not the form."""

import dataclasses
import json
import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import (
    LossInvalid,
    SampleCountInvalid,
    StepCountInvalid,
    UpdateEncodingMismatch,
    UpdateMalformed,
    UpdateNotFinite,
    UpdateRefused,
    UpdateShapeMismatch,
    UpdateTensorMismatch,
)
from fed_compute.protocol.job import Compression, Encoding
from fed_compute.protocol.updates import (
    HEAD_BYTES,
    MAX_UPDATE_HEADER_BYTES,
    ROOM_BYTES,
    DecodedUpdate,
    check_head,
    complete_update,
    decode_update,
    encode_update,
    max_container_bytes,
    max_update_bytes,
    min_update_bytes,
)

SIZE = 50
SCHEMA = "5" * 64
DELTA = np.linspace(-1, 1, SIZE, dtype=np.float32)
ENCODINGS: tuple[Encoding, ...] = ("f32", "bf16", "f16", "int8", "topk")
COMPRESSIONS: tuple[Compression, ...] = ("none", "zstd")
METADATA = {"format": "fed-compute-update", "encoding": "f32", "schema": SCHEMA, "num_samples": "3"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The pieces of a job's recipe that say how an update is written."""

    encoding: Encoding = "f32"
    compression: Compression = "none"
    topk_fraction: float = 0.1

    def encode(self, **changed: Any) -> bytes:
        said: dict[str, Any] = {"delta": DELTA, "num_samples": 3, "loss": 0.25, "train_seconds": 1.5, **changed}
        return encode_update(**said, **dataclasses.asdict(self), schema_digest=SCHEMA, rng=np.random.default_rng(0))

    def encode_without_chance(self) -> bytes:
        said: dict[str, Any] = {"delta": DELTA, "num_samples": 3, "loss": None, "train_seconds": None, "rng": None}
        return encode_update(**said, **dataclasses.asdict(self), schema_digest=SCHEMA)

    def decode(self, body: bytes | memoryview, *, num_parameters: int = SIZE) -> DecodedUpdate:
        return decode_update(body, num_parameters=num_parameters, schema_digest=SCHEMA, **dataclasses.asdict(self))


RECIPES = [Recipe(encoding, compression) for encoding in ENCODINGS for compression in COMPRESSIONS]
each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.encoding}-{r.compression}")
PLAIN, ZSTD = Recipe(), Recipe(compression="zstd")


def handmade(metadata: Any, *, record: Any = None, content: bytes | None = None) -> bytes:
    """An f32 update with any metadata."""
    record = record or {"dtype": "F32", "shape": [SIZE], "data_offsets": [0, 4 * SIZE]}
    text = json.dumps({"__metadata__": metadata, "delta": record}).encode()
    return struct.pack("<Q", len(text)) + text + (DELTA.tobytes() if content is None else content)


@each_recipe
def test_every_recipe_carries_an_update_there(recipe: Recipe) -> None:
    update = recipe.decode(recipe.encode())
    assert (update.num_samples, update.loss, update.train_seconds) == (3, 0.25, 1.5)
    assert update.delta.dtype == np.float32
    if recipe.encoding != "topk":
        np.testing.assert_allclose(update.delta, DELTA, atol=1 / 127)
    else:
        assert np.count_nonzero(update.delta) == 5


@each_recipe
def test_equal_arguments_give_equal_bytes(recipe: Recipe) -> None:
    assert recipe.encode() == recipe.encode()


@each_recipe
def test_no_legal_body_is_longer_than_the_limit(recipe: Recipe) -> None:
    """Noise does not compress, so zstd makes it longer."""
    noise = np.random.default_rng(1).standard_normal(200_000).astype(np.float32)
    facts = dataclasses.asdict(recipe)
    assert len(recipe.encode(delta=noise)) <= max_update_bytes(num_parameters=noise.size, **facts)
    assert len(recipe.encode()) <= max_update_bytes(num_parameters=SIZE, **facts)


def test_the_limit_is_exact_for_a_header_of_full_length() -> None:
    """A sender may pad its header to the limit, and not one byte further."""
    limit = max_container_bytes(num_parameters=SIZE, encoding="f32", topk_fraction=0.1)
    plain = PLAIN.encode()
    (length,) = struct.unpack_from("<Q", plain)
    header, content = plain[8 : 8 + length], plain[8 + length :]
    for padded, fits in ((MAX_UPDATE_HEADER_BYTES, True), (MAX_UPDATE_HEADER_BYTES + 1, False)):
        body = struct.pack("<Q", padded) + header.ljust(padded) + content
        assert (len(body) <= limit) is fits
        if fits:
            assert PLAIN.decode(body).num_samples == 3
        else:
            with pytest.raises(UpdateMalformed, match="has 2 to 8192"):
                PLAIN.decode(body)


def test_reading_f32_copies_no_values() -> None:
    delta = np.zeros(1_000_000, dtype=np.float32)
    body = PLAIN.encode(delta=delta)
    tracemalloc.start()
    update = PLAIN.decode(memoryview(body), num_parameters=delta.size)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    assert not update.delta.flags.writeable


def test_what_the_sender_does_not_know_may_be_left_out() -> None:
    update = PLAIN.decode(PLAIN.encode(loss=None, train_seconds=None))
    assert (update.loss, update.train_seconds) == (None, None)


@given(st.floats(0, 1e6), st.integers(1, 10_000_000))
def test_numbers_survive_to_the_last_bit(loss: float, num_samples: int) -> None:
    update = PLAIN.decode(PLAIN.encode(loss=loss, num_samples=num_samples))
    assert (update.loss, update.num_samples) == (loss, num_samples)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_are_the_validator_s_business(value: float) -> None:
    """f32 carries them; the reader does not judge."""
    assert PLAIN.decode(PLAIN.encode(delta=np.full(SIZE, value, dtype=np.float32))).delta.size == SIZE
    with pytest.raises(UpdateNotFinite):
        Recipe("int8").encode(delta=np.full(SIZE, value, dtype=np.float32))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"num_samples": 0}, SampleCountInvalid),
        ({"num_samples": 10_000_001}, SampleCountInvalid),
        ({"loss": float("nan")}, LossInvalid),
        ({"loss": float("-inf")}, LossInvalid),
        ({"loss": -1e-9}, LossInvalid),
        ({"loss": 1_000_001.0}, LossInvalid),
        ({"train_seconds": -1.0}, UpdateMalformed),
        ({"train_seconds": float("inf")}, UpdateMalformed),
        ({"train_seconds": 10_000_001.0}, UpdateMalformed),
        ({"num_steps": 0}, StepCountInvalid),
        ({"num_steps": 10_000_000_001}, StepCountInvalid),
    ],
)
def test_a_sender_cannot_write_what_no_one_would_read(said: dict[str, Any], error: type[UpdateRefused]) -> None:
    with pytest.raises(error):
        PLAIN.encode(**said)


COUNTS = ["0", "-1", "01", "1.0", "1e3", " 1", "1 ", "1_000", "+1", "", "nan", "١", "10000001", "9" * 3000]
LOSSES = ["-1", "1e8", "nan", "inf", "-inf", "1e999", "", " 1", "1_0", "0x1", "True", ".5", "1.", "+1", "1" * 41, "١"]


@pytest.mark.parametrize("count", COUNTS, ids=lambda text: text[:12])
def test_a_sample_count_is_a_plain_whole_number(count: str) -> None:
    with pytest.raises(SampleCountInvalid, match="from 1 to 10000000"):
        PLAIN.decode(handmade({**METADATA, "num_samples": count}))


@pytest.mark.parametrize("count", [*COUNTS[:-2], "10000000001", "9" * 3000], ids=lambda text: text[:12])
def test_a_step_count_is_a_plain_whole_number(count: str) -> None:
    with pytest.raises(StepCountInvalid, match="from 1 to 10000000000"):
        PLAIN.decode(handmade({**METADATA, "num_steps": count}))


@pytest.mark.parametrize("num_steps", [None, 1, 10_000_000_000])
def test_an_update_says_its_steps_or_nothing_of_them(num_steps: int | None) -> None:
    body = PLAIN.encode(num_steps=num_steps)
    assert PLAIN.decode(body).num_steps == num_steps
    assert (b"num_steps" in body) == (num_steps is not None)


@pytest.mark.parametrize("key", ["loss", "train_seconds"])
@pytest.mark.parametrize("text", LOSSES, ids=lambda text: text[:12])
def test_a_number_is_a_plain_finite_one(key: str, text: str) -> None:
    with pytest.raises(LossInvalid if key == "loss" else UpdateMalformed, match=f"{key} is .*wanted a plain decimal"):
        PLAIN.decode(handmade({**METADATA, key: text}))


@pytest.mark.parametrize(
    ("metadata", "error", "reason"),
    [
        ({}, UpdateMalformed, "missing"),
        ({key: value for key, value in METADATA.items() if key != "schema"}, UpdateMalformed, "'schema'"),
        ({**METADATA, "admin": "yes"}, UpdateMalformed, "unknown.*'admin'"),
        ({**METADATA, "format": "pt"}, UpdateMalformed, "'pt'"),
        ({**METADATA, "encoding": "int8"}, UpdateEncodingMismatch, "'int8', the recipe says 'f32'"),
        ({**METADATA, "schema": "6" * 64}, UpdateTensorMismatch, "6666.*5555"),
        ({**METADATA, "num_samples": 3}, UpdateMalformed, "text to text"),
    ],
)
def test_metadata_says_exactly_what_is_asked(metadata: dict[str, Any], error: type[UpdateRefused], reason: str) -> None:
    with pytest.raises(error, match=reason):
        PLAIN.decode(handmade(metadata))


def test_an_update_in_another_encoding_is_told_so_by_name() -> None:
    with pytest.raises(UpdateEncodingMismatch):
        Recipe("bf16").decode(PLAIN.encode())


def test_an_update_of_another_size_is_refused() -> None:
    with pytest.raises(UpdateShapeMismatch, match=r"\[50\].*\[49\]"):
        PLAIN.decode(PLAIN.encode(), num_parameters=49)


@each_recipe
def test_a_body_cut_or_lengthened_is_refused(recipe: Recipe) -> None:
    body = recipe.encode()
    for wrong in (body[:-1], body[: len(body) // 2], body[1:], body + b"\0", body + body, b"PK\3\4" + body):
        with pytest.raises(UpdateRefused):
            recipe.decode(wrong)


def test_updates_that_say_the_same_keep_their_own_values() -> None:
    """Headers are remembered, values never."""
    one, other = Recipe().encode(), Recipe().encode(delta=2 * DELTA)
    for _ in range(2):
        np.testing.assert_array_equal(Recipe().decode(one).delta, DELTA)
        np.testing.assert_array_equal(Recipe().decode(other).delta, 2 * DELTA)


def test_an_update_that_was_read_for_one_job_is_not_read_for_another() -> None:
    body = Recipe().encode()
    Recipe().decode(body)
    for _ in range(2):
        with pytest.raises(UpdateShapeMismatch):
            Recipe().decode(body, num_parameters=SIZE + 1)
        with pytest.raises(UpdateEncodingMismatch):
            Recipe("bf16").decode(body)
        with pytest.raises(UpdateTensorMismatch, match="digest"):
            decode_update(body, **dataclasses.asdict(Recipe()), num_parameters=SIZE, schema_digest="6" * 64)


def test_a_plain_body_is_no_zstd_and_the_reverse() -> None:
    with pytest.raises(UpdateMalformed, match="zstd"):
        ZSTD.decode(PLAIN.encode())
    with pytest.raises(UpdateMalformed):
        PLAIN.decode(ZSTD.encode())


def test_a_bomb_that_names_its_size_is_refused_before_anything_is_allocated() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(200_000_000))
    assert len(bomb) < 20_000
    tracemalloc.start()
    with pytest.raises(UpdateMalformed, match="says 200000000 bytes"):
        ZSTD.decode(bomb)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_a_frame_that_does_not_name_its_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(PLAIN.encode())
    with pytest.raises(UpdateMalformed, match="does not say its size"):
        ZSTD.decode(frame)


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    """The frame header's size field is made smaller and larger, within the limit."""
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(5000)))
    assert zstandard.get_frame_parameters(bytes(frame)).content_size == 5000
    place = bytes(frame).index(struct.pack("<H", 5000 - 256))
    for said in (10, 4999, 5001, 8000):
        frame[place : place + 2] = struct.pack("<H", said - 256 if said > 256 else said)
        with pytest.raises(UpdateMalformed):
            ZSTD.decode(bytes(frame))


def test_two_frames_are_refused() -> None:
    with pytest.raises(UpdateMalformed, match="one whole zstd frame"):
        ZSTD.decode(ZSTD.encode() + zstandard.ZstdCompressor().compress(b""))


@each_recipe
def test_the_first_bytes_of_a_legal_body_pass(recipe: Recipe) -> None:
    body, facts = recipe.encode(), dataclasses.asdict(recipe)
    for total_bytes in (len(body), None):
        check_head(body[:HEAD_BYTES], total_bytes=total_bytes, num_parameters=SIZE, **facts)
    assert min_update_bytes(num_parameters=SIZE, **facts) <= len(body)


@pytest.mark.parametrize("header_bytes", [0, 1, MAX_UPDATE_HEADER_BYTES + 1, 2**63, 2**64 - 1])
def test_a_header_of_an_impossible_length_is_refused_by_its_first_bytes(header_bytes: int) -> None:
    head = struct.pack("<Q", header_bytes) + b"{" * 10
    with pytest.raises(UpdateMalformed, match=f"header of {header_bytes} bytes"):
        check_head(head, total_bytes=None, num_parameters=SIZE, **dataclasses.asdict(PLAIN))


@pytest.mark.parametrize("off_by", [-8, -1, 1, 8])
def test_a_body_of_another_length_than_its_header_leaves_room_for_is_refused_by_its_first_bytes(off_by: int) -> None:
    body = PLAIN.encode()
    with pytest.raises(UpdateMalformed, match="50 values in f32"):
        check_head(body[:HEAD_BYTES], total_bytes=len(body) + off_by, num_parameters=SIZE, **dataclasses.asdict(PLAIN))


def test_a_body_that_would_become_a_thousand_times_as_long_is_refused_by_its_first_bytes() -> None:
    delta = np.zeros(1_000_000, dtype=np.float32)
    delta[0] = 1
    bomb, facts = ZSTD.encode(delta=delta), dataclasses.asdict(ZSTD)
    with pytest.raises(UpdateMalformed, match=r"1000 times.*topk"):
        check_head(bomb[:HEAD_BYTES], total_bytes=len(bomb), num_parameters=delta.size, **facts)
    delta[::500] = np.random.default_rng(0).standard_normal(2_000)
    sparse = ZSTD.encode(delta=delta)
    check_head(sparse[:HEAD_BYTES], total_bytes=len(sparse), num_parameters=delta.size, **facts)


@given(st.binary(max_size=HEAD_BYTES), st.sampled_from(RECIPES), st.none() | st.integers(0, 2**64))
def test_any_first_bytes_pass_or_are_refused_and_nothing_worse(head: bytes, recipe: Recipe, total: int | None) -> None:
    with suppress(UpdateMalformed):
        check_head(head, total_bytes=total, num_parameters=SIZE, **dataclasses.asdict(recipe))


@given(st.binary(max_size=300), st.sampled_from(RECIPES))
def test_arbitrary_bytes_are_refused_and_nothing_worse(body: bytes, recipe: Recipe) -> None:
    for prefix in (b"", b"\x28\xb5\x2f\xfd"):
        with pytest.raises(UpdateRefused):
            recipe.decode(prefix + body)


@given(st.data(), st.sampled_from(RECIPES))
def test_changed_bytes_are_refused_or_still_an_update_of_the_right_form(data: st.DataObject, recipe: Recipe) -> None:
    body = bytearray(recipe.encode())
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        update = recipe.decode(bytes(body))
    except UpdateRefused:
        return
    assert (update.delta.shape, update.delta.dtype) == ((SIZE,), np.dtype(np.float32))
    assert 1 <= update.num_samples <= 10_000_000


@given(st.dictionaries(st.sampled_from([*METADATA, "loss", "train_seconds", "num_steps", "x"]), st.text(max_size=50)))
def test_any_metadata_is_refused_or_read(changed: dict[str, str]) -> None:
    try:
        update = PLAIN.decode(handmade({**METADATA, **changed}))
    except UpdateRefused:
        return
    assert isinstance(update.num_samples, int)


def _in_a_room(delta: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Memory that ends with the values, as much before them as an update needs, and something else before that."""
    return np.concatenate([np.full(ROOM_BYTES // 4 + 7, 42, dtype=np.float32), delta])


@given(
    num_samples=st.integers(1, 10_000_000),
    loss=st.none() | st.floats(0, 1_000_000),
    train_seconds=st.none() | st.floats(0, 10_000_000),
    num_steps=st.none() | st.integers(1, 10_000_000_000),
)
def test_an_update_completed_where_its_values_lie_has_the_bytes_of_one_that_was_copied(**said: Any) -> None:
    memory = _in_a_room(DELTA)
    body = complete_update(memoryview(memory).cast("B"), num_parameters=SIZE, schema_digest=SCHEMA, **said)
    assert bytes(body) == PLAIN.encode(**said)
    assert np.shares_memory(PLAIN.decode(body).delta, memory)
    assert (memory[:7] == 42).all()
    assert body.readonly


def test_an_update_is_not_completed_where_there_is_no_room_for_its_header() -> None:
    memory = np.concatenate([np.zeros(10, dtype=np.float32), DELTA])
    said = {"num_samples": 3, "loss": None, "train_seconds": None}
    with pytest.raises(ValueError, match="has room for 40"):
        complete_update(memoryview(memory).cast("B"), num_parameters=SIZE, schema_digest=SCHEMA, **said)
    np.testing.assert_array_equal(memory[10:], DELTA)


def test_what_rounds_by_chance_wants_something_to_draw_from() -> None:
    with pytest.raises(ValueError, match="draw from"):
        Recipe("int8").encode_without_chance()
