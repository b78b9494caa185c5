"""What is wrong with the body of an upload as a file: cut, changed, of another kind, with another header."""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import zstandard

from fed_compute.protocol.digests import format_content_digest
from tests.acceptance.bad_inputs.case import Build, Case, Wanted, case, put
from tests.acceptance.bad_inputs.stage import Holder, Stage

MALFORMED, TENSORS, SHAPE = (422, "update_malformed"), (422, "update_tensor_mismatch"), (422, "update_shape_mismatch")
ENCODING, SAMPLES, LOSS = (422, "update_encoding_mismatch"), (422, "sample_count_invalid"), (422, "loss_invalid")
STEPS = (422, "step_count_invalid")
MISSING, MISMATCH, TOO_LARGE = (400, "digest_missing"), (400, "digest_mismatch"), (413, "body_too_large")
HEADER_BYTES = 256
"""The length of the header of a right update of the default job, the 8 bytes before it not counted."""

Change = Callable[[dict[str, Any]], object]
RECORD = {"dtype": "F32", "shape": [20], "data_offsets": [0, 80]}


def right(holder: Holder) -> bytes:
    """Return a right update."""
    return holder.encode(np.full(holder.num_parameters, 0.5))


def cases() -> Iterator[Case]:
    """Return every case of this class."""
    for place in (*range(8), *range(8, 8 + HEADER_BYTES, 3)):
        yield case(f"byte {place} of the head turned over", _damaged(place), MALFORMED)
    for length in range(0, 8 + HEADER_BYTES + 80, 16):
        yield case(f"cut after {length} bytes", _made(lambda body, n=length: body[:n]), MALFORMED)
    for length in range(0, 8 + HEADER_BYTES, 16):
        yield case(
            f"zeros after {length} bytes", _made(lambda body, n=length: body[:n].ljust(len(body), b"\0")), MALFORMED
        )
    for name, change in _wholes().items():
        yield case(f"a file {name}", _made(change), MALFORMED)
    for length in (0, 1, 2**13 + 1, 2**20, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
        yield case(
            f"a header of {length} bytes", _made(lambda body, n=length: struct.pack("<Q", n) + body[8:]), MALFORMED
        )
    for name, text in _headers().items():
        yield case(f"a header that is {name}", _headed(text), MALFORMED)
    for name, change, wanted in _metadata():
        yield case(f"metadata with {name}", _told(change), wanted)
    for name, change, wanted in _records():
        yield case(f"a tensor {name}", _recorded(change), *wanted)
    yield from _compressed()
    yield from _other_encodings()
    yield from _digests()


def _made(change: Callable[[bytes], bytes], job: str = "default") -> Build:
    return lambda stage: put(stage, change(right(stage.holders[job])), job=job)


def _damaged(place: int) -> Build:
    def change(body: bytes) -> bytes:
        assert struct.unpack_from("<Q", body) == (HEADER_BYTES,)
        return body[:place] + bytes([body[place] ^ 0x80]) + body[place + 1 :]

    return _made(change)


def _wholes() -> dict[str, Callable[[bytes], bytes]]:
    archive, pickled = io.BytesIO(), b"\x80\x04\x95\x13\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93."
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickled)
    zipped = archive.getvalue()
    return {
        "with a byte too many": lambda body: body + b"\0",
        "with four bytes too many": lambda body: body + b"\0" * 4,
        "twice": lambda body: body + body,
        "without its first byte": lambda body: body[1:],
        "with a zip archive at its end": lambda body: body + zipped,
        "with a zip archive at its start": lambda body: zipped + body,
        "that is a zip archive": lambda body: zipped.ljust(len(body), b"\0"),
        "that is a pickle": lambda body: pickled.ljust(len(body), b"."),
        "that is a NumPy array": lambda body: b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'shape': (1,), }".ljust(
            len(body)
        ),
        "that is a gzip file": lambda body: b"\x1f\x8b\x08".ljust(len(body), b"\0"),
        "that is a zstd frame": lambda body: zstandard.ZstdCompressor().compress(
            np.random.default_rng(0).bytes(len(body))
        ),
        "of zeros": lambda body: bytes(len(body)),
        "of ones": lambda body: b"\xff" * len(body),
        "of text": lambda body: b"not an update. " * (len(body) // 15),
        "of JSON": lambda body: b'{"weight_delta": [[1, 2]]}'.ljust(len(body)),
        "in big-endian order": lambda body: struct.pack(">Q", struct.unpack_from("<Q", body)[0]) + body[8:],
    }


def _headers() -> dict[str, bytes]:
    record = json.dumps(RECORD)
    return {
        "no JSON": b"hello",
        "empty JSON": b"{}",
        "a list": b"[]",
        "a number": b"12",
        "a text": b'"delta"',
        "null": b"null",
        "NaN": b'{"delta": NaN}',
        "open": b'{"delta": ',
        "in UTF-16": '{"delta": 1}'.encode("utf-16"),
        "marked": b"\xef\xbb\xbf{}",
        "in Latin-1": b'{"d\xe9lta": 1}',
        "followed by something": b'{"delta": 1} x',
        "nested without end": b'{"delta": ' + b"[" * 4_000,
        "full of the same tensor": f'{{"delta": {record}, "delta": {record}}}'.encode(),
        "full of the same field": record.replace('"dtype"', '"dtype": "F32", "dtype"')
        .join(['{"delta": ', "}"])
        .encode(),
        "full of the same metadata": b'{"__metadata__": {}, "__metadata__": {}}',
        "a number of 5000 digits": b'{"delta": ' + b"9" * 5_000 + b"}",
    }


def _headed(text: bytes) -> Build:
    return lambda stage: put(stage, struct.pack("<Q", len(text)) + text + right(stage.holders["default"])[-80:])


def _handmade(stage: Stage, header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return put(stage, struct.pack("<Q", len(text)) + text + np.full(20, 0.5, dtype="<f4").tobytes())


def _told(change: Change) -> Build:
    def build(stage: Stage) -> bytes:
        recipe = stage.holders["default"].task["recipe"]
        said: dict[str, Any] = {
            "format": "fed-compute-update",
            "encoding": "f32",
            "schema": recipe["schema_digest"],
            "num_samples": "10",
        }
        changed = change(said)
        return _handmade(stage, {"__metadata__": said if changed is None else changed, "delta": RECORD})

    return build


def _metadata() -> Iterator[tuple[str, Change, Wanted]]:
    yield "nothing at all", lambda said: {}, MALFORMED
    yield "a list", lambda said: [said], MALFORMED
    yield "a text", lambda said: "all", MALFORMED
    yield "a number", lambda said: 7, MALFORMED
    for key in ("format", "encoding", "schema", "num_samples"):
        yield f"no {key}", lambda said, k=key: said.pop(k) and None, MALFORMED
    for name, changed, wanted in [
        ("an unknown key", {"admin": "yes"}, MALFORMED),
        ("a client's name", {"client_id": "other"}, MALFORMED),
        ("a weight", {"weight": "1e9"}, MALFORMED),
        ("a number for a text", {"num_samples": 10}, MALFORMED),
        ("a list for a text", {"schema": []}, MALFORMED),
        ("null for a text", {"loss": None}, MALFORMED),
        ("half a surrogate pair", {"loss": "\ud800"}, MALFORMED),
        ("half a surrogate pair as a key", {"\ud800": "1"}, MALFORMED),
        ("4097 bytes", {"loss": "1" * 4_097}, MALFORMED),
        ("a thousand keys", {str(number): "" for number in range(500)}, MALFORMED),
        ("the format of PyTorch", {"format": "pt"}, MALFORMED),
        ("another encoding", {"encoding": "int8"}, ENCODING),
        ("an unknown encoding", {"encoding": "f64"}, ENCODING),
        ("the encoding in capitals", {"encoding": "F32"}, ENCODING),
        ("another model's schema", {"schema": "0" * 64}, TENSORS),
        ("no digest for a schema", {"schema": ""}, TENSORS),
        ("a path for a schema", {"schema": "../../etc/passwd"}, TENSORS),
        ("more samples than the job allows", {"num_samples": "1001"}, SAMPLES),
    ]:
        yield name, lambda said, c=changed: said.update(c), wanted
    for count in [
        "0",
        "-1",
        "+1",
        "01",
        "1.0",
        "1e3",
        " 1",
        "1 ",
        "1_000",
        "",
        "ten",
        "nan",
        "inf",
        "0x10",
        "१",
        "10000001",
        "9" * 3_000,
    ]:
        yield f"{count[:12]!r} samples", lambda said, c=count: said.update(num_samples=c), SAMPLES
    for count in ["0", "-1", "1.0", "nan", "", "10000000001", "9" * 3000]:
        yield f"{count[:12]!r} steps", lambda said, c=count: said.update(num_steps=c), STEPS
    for text in [
        "nan",
        "NaN",
        "inf",
        "-inf",
        "Infinity",
        "1e999",
        "-1",
        "-0.001",
        "10000001",
        "",
        " 1",
        "1 ",
        "1,5",
        "1_0",
        "0x1",
        ".5",
        "1.",
        "+1",
        "True",
        "null",
        "१",
        "1" * 41,
    ]:
        yield f"loss {text[:12]!r}", lambda said, t=text: said.update(loss=t), LOSS
        yield f"train_seconds {text[:12]!r}", lambda said, t=text: said.update(train_seconds=t), MALFORMED


def _recorded(change: Change) -> Build:
    def build(stage: Stage) -> bytes:
        recipe = stage.holders["default"].task["recipe"]
        metadata = {
            "format": "fed-compute-update",
            "encoding": "f32",
            "schema": recipe["schema_digest"],
            "num_samples": "9",
        }
        header: dict[str, Any] = {"__metadata__": metadata, "delta": dict(RECORD)}
        change(header)
        return _handmade(stage, header)

    return build


def _records() -> Iterator[tuple[str, Change, list[Wanted]]]:
    def changed(**fields: Any) -> Change:
        return lambda header: header["delta"].update(fields)

    yield "that is missing", lambda header: header.pop("delta"), [TENSORS]
    yield "of another name", lambda header: header.update(Delta=header.pop("delta")), [TENSORS]
    for name in ("extra", "", "../../x", "a\0b", "\ud800", "__class__", "delta "):
        yield f"too many, {name!r}", lambda header, n=name: header.update({n: RECORD}), [TENSORS, MALFORMED]
    yield (
        "of no size beside it",
        lambda header: header.update(x={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
        [TENSORS],
    )
    yield "and a hundred empty ones", lambda header: header.update({str(n): 0 for n in range(100)}), [TENSORS]
    for record in (None, 7, "F32", [], {}, True):
        yield f"described by {record!r}", lambda header, r=record: header.update(delta=r), [MALFORMED]
    for field in RECORD:
        yield f"without {field}", lambda header, f=field: header["delta"].pop(f), [MALFORMED]
    yield "with a field too many", changed(pickle="gASVAAAA"), [MALFORMED]
    for dtype in (
        "F64",
        "F16",
        "BF16",
        "I8",
        "I32",
        "U8",
        "BOOL",
        "F8_E4M3",
        "f32",
        "float32",
        "O",
        "",
        None,
        7,
        ["F32"],
    ):
        yield f"of dtype {dtype!r}", changed(dtype=dtype), [TENSORS]
    for shape in ([19], [21], [], [20, 1], [4, 5], [0], [2**40], [1] * 1_000):
        yield f"of shape {str(shape)[:20]}", changed(shape=shape), [SHAPE]
    for shape in ([-20], [20.0], ["20"], [True], [None], [[20]], 20, "20", None, [2**63], [2**70]):
        yield f"of shape {shape!r}", changed(shape=shape), [MALFORMED]
    for offsets in (
        [0, 76],
        [0, 84],
        [4, 84],
        [-4, 76],
        [80, 0],
        [0],
        [],
        [0, 80, 80],
        [0.0, 80.0],
        ["0", "80"],
        [True, 81],
        [2**63, 2**63 + 80],
        [2**64, 80],
        None,
        "0-80",
        {"0": 80},
    ):
        yield f"at {offsets!r}", changed(data_offsets=offsets), [MALFORMED]


def _compressed() -> Iterator[Case]:
    plain = zstandard.ZstdCompressor()

    def frame(content: bytes, **options: Any) -> bytes:
        return zstandard.ZstdCompressor(**options).compress(content)

    bodies: dict[str, Callable[[bytes], bytes]] = {
        "that is not compressed": lambda body: zstandard.ZstdDecompressor().decompress(body),
        "cut in the middle": lambda body: body[: len(body) // 2],
        "without its last byte": lambda body: body[:-1],
        "with a byte too many": lambda body: body + b"\0",
        "and an empty frame": lambda body: body + plain.compress(b""),
        "twice": lambda body: body + body,
        "compressed twice": lambda body: plain.compress(body),
        "of nothing": lambda body: plain.compress(b""),
        "of 200 MB of zeros": lambda body: _BOMB,
        "of a thousand times its length": lambda body: plain.compress(bytes(8_200)),
        "that does not say its size": lambda body: frame(bytes(300), write_content_size=False),
        "with a wrong checksum": lambda body: frame(bytes(300), write_checksum=True)[:-1] + b"\xff",
        "with a dictionary": lambda body: body[:4] + bytes([body[4] | 3]) + body[5:],
        "that is a skippable frame": lambda body: struct.pack("<II", 0x184D2A50, 40) + bytes(40),
        "with another magic number": lambda body: b"\x28\xb5\x2f\xfe" + body[4:],
        "of gzip": lambda body: b"\x1f\x8b\x08".ljust(60, b"\0"),
        "of random bytes": lambda body: plain.compress(np.random.default_rng(0).bytes(300)),
    }
    for name, change in bodies.items():
        yield case(f"zstd: a body {name}", _made(change, "zstd"), MALFORMED)
    for place in range(0, 60, 3):
        change = lambda body, n=place: body[:n] + bytes([body[n] ^ 0xFF]) + body[n + 1 :]  # noqa: E731
        yield case(
            f"zstd: byte {place} turned over", _made(change, "zstd"), MALFORMED, TENSORS, ENCODING, SAMPLES, LOSS, SHAPE
        )


_BOMB = zstandard.ZstdCompressor().compress(bytes(200_000_000))


def _other_encodings() -> Iterator[Case]:
    for job in ("bf16", "f16", "int8", "topk"):
        for written in ("f32", "bf16", "f16", "int8", "topk"):
            if written != job:
                yield case(f"{job}: written as {written}", _written(job, written), MALFORMED, ENCODING)
        yield case(f"{job}: cut short", _made(lambda body: body[:-1], job), MALFORMED)
        yield case(f"{job}: of zeros", _made(lambda body: bytes(len(body)), job), MALFORMED)
    for name, places in {
        "a place twice": [0, 0, 1, 2],
        "places that fall": [3, 2, 1, 0],
        "a place behind the last": [0, 1, 2, 20],
        "a place of 2^32 - 1": [0, 1, 2, 2**32 - 1],
        "all places the same": [7, 7, 7, 7],
    }.items():
        yield case(f"topk: {name}", _placed(places), MALFORMED)


def _written(job: str, written: str) -> Build:
    def build(stage: Stage) -> bytes:
        holder = stage.holders[job]
        body = holder.encode(np.linspace(0.1, 1, holder.num_parameters), encoding=written, topk_fraction=0.2)
        return put(stage, body, job=job)

    return build


def _placed(places: list[int]) -> Build:
    def change(body: bytes) -> bytes:
        return body[:-32] + np.array(places, dtype="<u4").tobytes() + body[-16:]

    return _made(change, "topk")


def _digests() -> Iterator[Case]:
    two = f"{format_content_digest('0' * 64)}, {format_content_digest('1' * 64)}"
    wrong = {
        "none": None,
        "empty": "",
        "no algorithm": ":AAAA:",
        "md5 alone": "md5=:1B2M2Y8AsgTpgAmy7PhCfg==:",
        "hexadecimal": "sha-256=" + "0" * 64,
        "no colons": "sha-256=AAAA",
        "one colon": "sha-256=:AAAA",
        "no base64": "sha-256=:****:",
        "31 bytes": "sha-256=:" + "A" * 40 + "AA==:",
        "33 bytes": "sha-256=:" + "A" * 44 + ":",
        "SHA-256 in capitals": "SHA-256=:" + "A" * 43 + "=:",
        "two": two,
        "4 KiB": "sha-256=:" + "A" * 4_096 + ":",
        "a text": '"sha-256"',
    }
    for name, value in wrong.items():
        yield case(f"digest: {name}", _announced({"Content-Digest": value}), MISSING)
    for name, digest in {
        "of nothing": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "of zeros": "0" * 64,
    }.items():
        yield case(f"digest: that {name}", _announced({"Content-Digest": format_content_digest(digest)}), MISMATCH)
    yield case("a body longer than any of the job", _made(lambda body: body.ljust(20_000, b"\0")), TOO_LARGE)
    yield case("a body longer than any of the job, cut", _made(lambda body: body.ljust(100_000, b"\0")), TOO_LARGE)


def _announced(changed: dict[str, str | None]) -> Build:
    return lambda stage: put(stage, right(stage.holders["default"]), changed=changed)
