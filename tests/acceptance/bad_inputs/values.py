"""What is wrong with the values of an update whose form is right."""

import math
import struct
from collections.abc import Callable, Iterator

import numpy as np

from fed_compute.protocol.container import open_container
from tests.acceptance.bad_inputs.case import Build, Case, Wanted, case, put
from tests.acceptance.bad_inputs.stage import COPIED, Holder, Stage

NOT_FINITE, TOO_LONG, ZERO = (422, "update_not_finite"), (422, "update_norm_too_large"), (422, "update_all_zero")
COPY, MODEL, SAMPLES = (422, "update_copied"), (422, "update_is_model"), (422, "sample_count_invalid")

F32 = {
    "a quiet NaN": 0x7FC00000,
    "a negative NaN": 0xFFC00000,
    "a signalling NaN": 0x7F800001,
    "a NaN with a payload": 0x7FC0DEAD,
    "a NaN of ones": 0xFFFFFFFF,
    "infinity": 0x7F800000,
    "negative infinity": 0xFF800000,
}
F16 = {"a NaN": 0x7E00, "a signalling NaN": 0x7C01, "infinity": 0x7C00, "negative infinity": 0xFC00, "ones": 0xFFFF}
BF16 = {"a NaN": 0x7FC0, "a signalling NaN": 0x7F81, "infinity": 0x7F80, "negative infinity": 0xFF80, "ones": 0xFFFF}
PLACES = {"first": 0, "second": 1, "middle": 10, "last": 19}
EDGES = {"first": 0, "end of the first block": 65_535, "start of the second block": 65_536, "last": 70_000}
"""Places in the large job's update; sums are made in blocks of 65 536."""


def cases() -> Iterator[Case]:
    """Return every case of this class."""
    for name, bits in F32.items():
        for where, place in PLACES.items():
            yield case(f"f32: {name} as the {where} value", _set("default", {place: bits}), NOT_FINITE)
        yield case(f"zstd: {name} as the last value", _set("zstd", {19: bits}), NOT_FINITE)
        yield case(f"f32: {name} everywhere", _set("default", dict.fromkeys(range(20), bits)), NOT_FINITE)
        for where, place in EDGES.items():
            yield case(f"large: {name} at the {where}", _set("large", {place: bits}), NOT_FINITE)
    for job, table, width in (("f16", F16, "<u2"), ("bf16", BF16, "<u2")):
        for name, bits in table.items():
            for where, place in PLACES.items():
                yield case(f"{job}: {name} as the {where} value", _set(job, {place: bits}, width=width), NOT_FINITE)
    for name, bits in F32.items():
        yield case(f"int8: {name} as the scale", _tensor("int8", "delta.scale", 0, bits), NOT_FINITE)
        for where, place in {"first": 0, "last": 3}.items():
            yield case(f"topk: {name} as the {where} value", _tensor("topk", "delta.value", place, bits), NOT_FINITE)
    yield from _long()
    yield from _zeros()
    yield from _copies()


def _set(job: str, bits: dict[int, int], *, width: str = "<u4") -> Build:
    """Build an update in which some values are these bits."""

    def build(stage: Stage) -> bytes:
        holder = stage.holders[job]
        if holder.compressed:
            return put(stage, _compressed_with(holder, bits), job=job)
        body = bytearray(holder.encode(np.full(holder.num_parameters, 0.01)))
        content = np.frombuffer(body, dtype=width, offset=len(body) - holder.num_parameters * int(width[-1])).copy()
        for place, value in bits.items():
            content[place] = value
        return put(stage, bytes(body[: len(body) - content.nbytes]) + content.tobytes(), job=job)

    return build


def _compressed_with(holder: Holder, bits: dict[int, int]) -> bytes:
    delta = np.full(holder.num_parameters, 0.01, dtype="<f4")
    for place, value in bits.items():
        delta.view("<u4")[place] = value
    return holder.encode(delta)


def _tensor(job: str, name: str, place: int, bits: int) -> Build:
    """Build an update in which one value of one tensor is these bits."""

    def build(stage: Stage) -> bytes:
        holder = stage.holders[job]
        body = bytearray(holder.encode(np.linspace(0.1, 0.5, holder.num_parameters)))
        container = open_container(bytes(body))
        record = container.header.records[name]
        assert isinstance(record, dict)
        struct.pack_into("<I", body, len(body) - len(container.content) + record["data_offsets"][0] + 4 * place, bits)
        return put(stage, bytes(body), job=job)

    return build


def _filled(job: str, make: Callable[[int], list[float]]) -> Build:
    def build(stage: Stage) -> bytes:
        holder = stage.holders[job]
        return put(stage, holder.encode(make(holder.num_parameters)), job=job)

    return build


def _long() -> Iterator[Case]:
    largest, cap = 3.4028234663852886e38, 10 * math.sqrt(20)
    above = float(np.nextafter(np.float32(cap), np.float32(np.inf)))
    for job in ("default", "zstd", "bf16", "f16", "int8", "topk"):
        yield case(f"{job}: longer than the cap", _filled(job, lambda n: [cap * 1.01] + [0.0] * (n - 1)), TOO_LONG)
    yield case("f32: one step above the cap", _filled("default", lambda n: [above] + [0.0] * (n - 1)), TOO_LONG)
    yield case("f32: one step above minus the cap", _filled("default", lambda n: [0.0] * (n - 1) + [-above]), TOO_LONG)
    yield case("f32: all a step above 10", _filled("default", lambda n: [10.000001] * n), TOO_LONG)
    for job in ("default", "zstd", "large"):
        yield case(f"{job}: the largest float everywhere", _filled(job, lambda n: [largest] * n), TOO_LONG)
        yield case(f"{job}: the largest float once", _filled(job, lambda n: [largest] + [0.0] * (n - 1)), TOO_LONG)
        yield case(f"{job}: floats whose squares overflow", _filled(job, lambda n: [3e19] * n), TOO_LONG)
        yield case(
            f"{job}: largest and smallest in turn", _filled(job, lambda n: ([largest, -largest] * n)[:n]), TOO_LONG
        )
    yield case("bf16: the largest everywhere", _set("bf16", dict.fromkeys(range(20), 0x7F7F), width="<u2"), TOO_LONG)
    yield case("f16: the largest everywhere", _set("f16", dict.fromkeys(range(20), 0x7BFF), width="<u2"), TOO_LONG)
    yield case("int8: a scale that overflows", _tensor("int8", "delta.scale", 0, 0x7F7FFFFF), NOT_FINITE, TOO_LONG)
    yield case("int8: a negative scale", _tensor("int8", "delta.scale", 0, 0xC2C80000), TOO_LONG)
    yield case("topk: the largest float", _tensor("topk", "delta.value", 0, 0x7F7FFFFF), TOO_LONG)


def _zeros() -> Iterator[Case]:
    for job in ("default", "zstd", "bf16", "f16", "int8", "topk", "large"):
        yield case(f"{job}: all zero", _filled(job, lambda n: [0.0] * n), ZERO)
        if job != "topk":
            yield case(f"{job}: all minus zero", _filled(job, lambda n: [-0.0] * n), ZERO)
    yield case("int8: a scale of zero", _tensor("int8", "delta.scale", 0, 0), ZERO)
    yield case("f32: zero and minus zero in turn", _filled("default", lambda n: ([0.0, -0.0] * n)[:n]), ZERO)


def _copies() -> Iterator[Case]:
    wanted: list[tuple[str, dict[str, object], Wanted]] = [
        ("to the last byte", {}, COPY),
        ("with another number of samples", {"num_samples": 11}, COPY),
        ("with another loss", {"loss": 0.75}, COPY),
        ("without a loss", {"loss": None, "train_seconds": None}, COPY),
        ("with too many samples", {"num_samples": 1_001}, SAMPLES),
    ]
    for name, said, refusal in wanted:
        yield case(
            f"a copy {name}", lambda stage, s=said: put(stage, stage.holders["default"].encode(COPIED, **s)), refusal
        )
    for job in ("default", "zstd", "large"):
        yield case(
            f"{job}: the model itself", lambda stage, j=job: put(stage, _model(stage, j), job=j), MODEL, TOO_LONG, ZERO
        )


def _model(stage: Stage, job: str) -> bytes:
    answer = stage.served.http.get("/model/v1", params={"job": job}).json()
    return stage.holders[job].encode(np.concatenate([np.ravel(values) for values in answer["weights"].values()]))
