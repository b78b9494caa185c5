"""What the recorded files hold, and how to record them again after a deliberate change of format.

`python -m tests.golden.cases` rewrites every file. A change of these bytes is a change of the
protocol: raise its version, keep the old files, and say so in the changelog.
"""

from pathlib import Path

import numpy as np

from fed_compute.protocol.job import Compression, Encoding
from fed_compute.protocol.models import encode_model
from fed_compute.protocol.schema import Parameter, ParameterSchema, draw_initial
from fed_compute.protocol.updates import encode_update

FOLDER = Path(__file__).parent / "v1"
SCHEMA = ParameterSchema(
    (Parameter("layers.0.weight", (4, 8), "uniform", 0.5), Parameter("layers.0.bias", (4,), "normal", 0.1))
)
DELTA = np.array([(-1) ** i * 2.0 ** (i % 7 - 3) * (1 + i / 64) for i in range(36)], dtype=np.float32)
NUM_SAMPLES, LOSS, TRAIN_SECONDS, TOPK_FRACTION = 128, 0.3125, 2.5, 0.1
ENCODINGS: tuple[Encoding, ...] = ("f32", "bf16", "f16", "int8", "topk")
COMPRESSIONS: tuple[Compression, ...] = ("none", "zstd")


def update_file(encoding: Encoding, compression: Compression) -> Path:
    return FOLDER / f"update-{encoding}-{compression}.safetensors"


def model_file() -> Path:
    return FOLDER / "model.safetensors"


def encode(encoding: Encoding, compression: Compression) -> bytes:
    return encode_update(
        DELTA,
        encoding=encoding,
        compression=compression,
        topk_fraction=TOPK_FRACTION,
        schema_digest=SCHEMA.digest(),
        num_samples=NUM_SAMPLES,
        loss=LOSS,
        train_seconds=TRAIN_SECONDS,
        rng=np.random.Generator(np.random.PCG64(11)),
    )


def record() -> None:
    FOLDER.mkdir(exist_ok=True)
    for encoding in ENCODINGS:
        for compression in COMPRESSIONS:
            update_file(encoding, compression).write_bytes(encode(encoding, compression))
    model_file().write_bytes(encode_model(draw_initial(SCHEMA, seed=1), SCHEMA))


if __name__ == "__main__":
    record()
