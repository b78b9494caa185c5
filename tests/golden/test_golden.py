"""Today's reader reads what version 1 wrote, and today's writer writes it again."""

import numpy as np
import pytest

from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.job import Compression, Encoding
from fed_compute.protocol.models import decode_model, encode_model
from fed_compute.protocol.schema import draw_initial
from fed_compute.protocol.updates import DecodedUpdate, decode_update
from tests.golden.cases import (
    COMPRESSIONS,
    DELTA,
    ENCODINGS,
    LOSS,
    NUM_SAMPLES,
    SCHEMA,
    TOPK_FRACTION,
    TRAIN_SECONDS,
    encode,
    model_file,
    update_file,
)

MODEL_DIGEST = "70ed390eb3cec60076f95686d37012c4dc7bfeae45e49ad7acd970afc9872a57"
SCHEMA_DIGEST = "9acfe2d26bc85ce20560bdc7594430349b28aa60ddceaff582e8272f10b210b6"


def decode(body: bytes, encoding: Encoding, compression: Compression) -> DecodedUpdate:
    return decode_update(
        body,
        num_parameters=DELTA.size,
        schema_digest=SCHEMA_DIGEST,
        encoding=encoding,
        compression=compression,
        topk_fraction=TOPK_FRACTION,
    )


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_recorded_update_is_still_read(encoding: Encoding, compression: Compression) -> None:
    update = decode(update_file(encoding, compression).read_bytes(), encoding, compression)
    assert (update.num_samples, update.loss, update.train_seconds) == (NUM_SAMPLES, LOSS, TRAIN_SECONDS)
    if encoding == "topk":
        kept = np.flatnonzero(update.delta)
        assert kept.size == 4
        np.testing.assert_array_equal(update.delta[kept], DELTA[kept])
    else:
        allowed = {"f32": 0.0, "bf16": 2.0**-8, "f16": 2.0**-11, "int8": 1 / 127}[encoding]
        np.testing.assert_allclose(update.delta, DELTA, rtol=0, atol=allowed * np.abs(DELTA).max())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_recorded_update_is_still_written_byte_for_byte(encoding: Encoding) -> None:
    """`int8` included: the random stream of a seed is part of what makes a run repeatable."""
    assert encode(encoding, "none") == update_file(encoding, "none").read_bytes()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_compressed_update_holds_the_plain_one(encoding: Encoding) -> None:
    """Compressed bytes may change with the library; what they hold may not."""
    packed = decode(update_file(encoding, "zstd").read_bytes(), encoding, "zstd")
    plain = decode(update_file(encoding, "none").read_bytes(), encoding, "none")
    assert packed.delta.tobytes() == plain.delta.tobytes()


def test_the_first_version_of_a_job_still_has_the_same_name() -> None:
    """Seed, initialisers, layout and header together: a digest that changes breaks every stored job."""
    vector = draw_initial(SCHEMA, seed=1)
    assert SCHEMA.digest() == SCHEMA_DIGEST
    assert encode_model(vector, SCHEMA) == model_file().read_bytes()
    assert sha256_hex(model_file().read_bytes()) == MODEL_DIGEST
    assert decode_model(model_file().read_bytes(), SCHEMA).tobytes() == vector.tobytes()
