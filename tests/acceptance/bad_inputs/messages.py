"""What is wrong with a JSON body: as JSON, as a message, as the values of an update."""

import json
from collections.abc import Iterator
from typing import Any

from tests.acceptance.bad_inputs.case import Build, Case, Wanted, case, post, request, say
from tests.acceptance.bad_inputs.stage import COPIED, Stage

INVALID, NAME, TAKEN = (422, "invalid_request"), (422, "client_name_invalid"), (409, "client_name_taken")
MALFORMED, TENSORS, SHAPE = (422, "update_malformed"), (422, "update_tensor_mismatch"), (422, "update_shape_mismatch")
NOT_FINITE, SAMPLES, LOSS = (422, "update_not_finite"), (422, "sample_count_invalid"), (422, "loss_invalid")
DENIED, NO_TASK, NO_ROUND = (401, "authentication_failed"), (404, "task_not_found"), (404, "round_not_found")
TOO_LARGE, JOB = (413, "body_too_large"), (422, "job_file_invalid")
LONE = "\ud800"
"""Half a surrogate pair: JSON can spell it, UTF-8 cannot."""

HUGE = 10**4_000
BROKEN = {
    "nothing": b"",
    "a blank": b" ",
    "an open brace": b"{",
    "a closing brace": b"}",
    "an open text": b'{"a": "',
    "a key alone": b'{"a"}',
    "a key without quotes": b"{a: 1}",
    "single quotes": b"{'a': 1}",
    "a comma too many": b'{"a": 1,}',
    "a comma too few": b'{"a": 1 "b": 2}',
    "a comment": b'{"a": 1} // one',
    "something after it": b"{} {}",
    "a NUL after it": b"{}\0",
    "a NUL within": b'{"a\0": 1}',
    "a line break in a text": b'{"a\nb": 1}',
    "a mark before it": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "UTF-32": "{}".encode("utf-32"),
    "Latin-1": b'{"\xe9": 1}',
    "broken UTF-8": b'{"\xff": 1}',
    "NaN as a key": b"{NaN: 1}",
    "a bare word": b"hello",
    "a Python literal": b"{'a': None, 'b': True}",
    "a plus sign": b'{"a": +1}',
    "a leading zero": b'{"a": 01}',
    "hexadecimal": b'{"a": 0x10}',
    "a number that ends with a point": b'{"a": 1.}',
    "5000 digits": b'{"a": ' + b"9" * 5_000 + b"}",
    "the same key twice": b'{"a": 1, "a": 1}',
    "brackets without end": b"[" * 60_000,
    "braces without end": b'{"a":' * 10_000,
    "brackets to the depth of 30 000": b"[" * 30_000 + b"]" * 30_000,
    "a bad escape": b'{"\\x41": 1}',
    "a cut escape": b'{"\\u12": 1}',
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94.",
    "XML": b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
    "YAML": b"!!python/object/apply:os.system ['true']",
    "a gzip file": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}
NOT_OBJECTS: list[Any] = [None, True, 7, -0.0, 1e300, "text", [], [{}], float("nan"), float("inf"), LONE]
NOT_NUMBERS: list[Any] = ["0.5", "", True, None, [], {}, [0.5], float("nan"), float("inf"), -float("inf"), LONE]
NOT_COUNTS: list[Any] = [0, -1, 1.0, 1.5, 1e3, "10", True, [], {}, 10_000_001, 2**63, HUGE, float("nan"), float("inf")]

SHAPES = {
    "layers.0.weight": [2, 3],
    "layers.0.bias": [2],
    "layers.1.weight": [2, 2],
    "layers.1.bias": [2],
    "layers.2.weight": [2, 2],
    "layers.2.bias": [2],
}


def filled(value: Any) -> dict[str, Any]:
    """Return an update by tensor name in which every number is `value`."""
    return {
        name: [value] * shape[0] if len(shape) == 1 else [[value] * shape[1] for _ in range(shape[0])]
        for name, shape in SHAPES.items()
    }


def cases() -> Iterator[Case]:
    """Return every case of this class."""
    for path in ("/client/register", "/tasks/{task}/heartbeat", "/tasks/{task}/evaluation", "/update"):
        for name, body in BROKEN.items():
            yield case(f"{path}: {name}", post(path, body), INVALID)
        for value in NOT_OBJECTS:
            yield case(f"{path}: {_short(value)} alone", post(path, say(value)), INVALID)
    for path, message, wanted in (*_registrations(), *_heartbeats(), *_evaluations()):
        yield case(f"{path}: {_short(message)}", post(path, say(message)), wanted)
    for name, changed, wanted in _updates():
        yield case(f"update: {name}", _update(changed), wanted)
    for name, delta, wanted in _deltas():
        yield case(f"values: {name}", _update({"weight_delta": delta}), wanted)
        yield case(f"values as text: {name}", _update({"weight_delta": json.dumps(delta)}), wanted)
    for name, text in BROKEN.items():
        spelt = text.decode("latin-1")
        yield case(f"values as broken text: {name}", _update({"weight_delta": spelt}), MALFORMED, TENSORS)
    for name, body, kind, wanted in _jobs():
        yield case(f"job: {name}", _job(body, kind), wanted)


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 10**100:
        return "a number of 4000 digits" if value > 0 else "minus a number of 4000 digits"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_short(item)}" for key, item in value.items()) + "}"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]}… ({len(text)})"


def _registrations() -> Iterator[tuple[str, Any, Wanted]]:
    names = [
        "", " ", "a b", "-a", ".a", "_a", "a/b", "a\\b", "..", "../x", "a\0", "a\nb", "é", "日本", "💩", LONE, "x" * 65,
        "x" * 10_000, "<script>", "a'--", "${jndi:ldap://x}", "%00", "a:b",
    ]  # fmt: skip
    for name in names:
        yield "/client/register", {"client_name": name}, NAME
    for value in [7, 7.5, True, [], {}, ["a"], float("nan")]:
        yield "/client/register", {"client_name": value}, INVALID
    yield "/client/register", {"client_name": "holder-default"}, TAKEN
    for field in ["name", "reputation", "scope", "api_key", "__class__", "", LONE]:
        yield "/client/register", {"client_name": "stranger", field: 1}, INVALID
    yield "/client/register", {"invite": "x" * 201}, INVALID
    yield "/client/register", {"client_name": "x" * 70_000}, TOO_LARGE
    for capabilities in [
        7, [], "many", {"cpu_count": 0}, {"cpu_count": -1}, {"cpu_count": 4_097}, {"cpu_count": "4"},
        {"cpu_count": True}, {"cpu_count": 1.5}, {"cpu_count": 10**30}, {"memory_bytes": 0}, {"memory_bytes": "1GB"},
        {"cuda": 1}, {"cuda": "yes"}, {"client_version": "x" * 41}, {"client_version": 1}, {"gpu": "A100"},
    ]:  # fmt: skip
        yield "/client/register", {"capabilities": capabilities}, INVALID


def _heartbeats() -> Iterator[tuple[str, Any, Wanted]]:
    path = "/tasks/{task}/heartbeat"
    for value in [-0.1, 1.1, -1, 2, 1e300, HUGE, *NOT_NUMBERS]:
        yield path, {"progress": value}, INVALID
    yield path, {"progress": 0.5, "deadline": 1e12}, INVALID
    yield path, {"state": "reported"}, INVALID


def _evaluations() -> Iterator[tuple[str, Any, Wanted]]:
    path, right = "/tasks/{task}/evaluation", {"num_samples": 10, "loss": 0.5, "accuracy": 0.5}
    yield path, right, NO_TASK
    for value in NOT_COUNTS:
        yield path, {**right, "num_samples": value}, INVALID
    for value in [-0.1, 1_000_001, HUGE, *NOT_NUMBERS]:
        yield path, {**right, "loss": value}, INVALID
    for value in [-0.1, 1.1, HUGE, *(value for value in NOT_NUMBERS if value is not None)]:
        yield path, {**right, "accuracy": value}, INVALID
    for missing in ("num_samples", "loss"):
        yield path, {name: value for name, value in right.items() if name != missing}, INVALID
    yield path, {**right, "client_id": "other"}, INVALID


def _update(changed: dict[str, Any]) -> Build:
    def build(stage: Stage) -> bytes:
        right = {
            "client_id": stage.names["client"],
            "round_id": int(stage.names["round"]),
            "weight_delta": filled(0.5),
            "num_samples": 10,
            "loss": 1.0,
        }
        message = {name: value for name, value in {**right, **changed}.items() if value is not LEFT_OUT}
        return request("POST", "/update", say(message), key=stage.key, kind="application/json")

    return build


LEFT_OUT: Any = object()


def _updates() -> Iterator[tuple[str, dict[str, Any], Wanted]]:
    for field in ("client_id", "round_id", "weight_delta"):
        yield f"no {field}", {field: LEFT_OUT}, INVALID
        yield f"a {field} of null", {field: None}, INVALID
    for value in ["other", "nobody", "", " ", "../x", LONE, "x" * 1_000, "holder-default\0", "HOLDER-DEFAULT"]:
        yield f"client {_short(value)}", {"client_id": value}, DENIED
    for value in [7, True, [], {}, 1.5]:
        yield f"client {_short(value)}", {"client_id": value}, INVALID
    for value in [0, -1, 999, 2**53 + 1, 2**63, HUGE]:
        yield f"round {_short(value)}", {"round_id": value}, NO_ROUND
    for value in ["1", 1.0, 1.5, True, [], {}, float("nan")]:
        yield f"round {_short(value)}", {"round_id": value}, INVALID
    for value in NOT_COUNTS:
        yield f"{_short(value)} samples", {"num_samples": value}, INVALID
    for value in [0, -1, 10_000_000_001, HUGE, 1.0, True, "1"]:
        yield f"{_short(value)} steps", {"num_steps": value}, INVALID
    yield "more samples than the job allows", {"num_samples": 1_001}, SAMPLES
    for value in [-0.1, 1_000_001, HUGE, *(value for value in NOT_NUMBERS if value is not None)]:
        yield f"loss {_short(value)}", {"loss": value}, INVALID
    for field in ["weight", "accepted", "reputation", "digest", "task_id", "num_sample", "__proto__"]:
        yield f"a field {field}", {field: 1}, INVALID
    for value in [7, True, 0.5, float("nan")]:
        yield f"values {_short(value)}", {"weight_delta": value}, INVALID
    yield "values of 100 000 characters", {"weight_delta": "x" * 100_000}, TOO_LARGE


def _deltas() -> Iterator[tuple[str, Any, Wanted]]:
    first, right = next(iter(SHAPES)), filled(0.5)
    yield "an empty object", {}, TENSORS
    yield "an empty list", [], TENSORS
    yield "a tensor too few", {name: right[name] for name in list(right)[:-1]}, TENSORS
    yield "a tensor too many", {**right, "extra": [0.0]}, TENSORS
    yield "an array too few", list(right.values())[:-1], TENSORS
    yield "an array too many", [*right.values(), [0.0]], TENSORS
    yield "all values in one list", [0.5] * 20, TENSORS
    yield "the model's name in other letters", {name.upper(): value for name, value in right.items()}, TENSORS
    yield "half a surrogate pair as a name", {**right, LONE: [0.0]}, TENSORS
    yield "a path as a name", {**right, "../../x": [0.0]}, TENSORS
    for name, value, wanted in [
        ("a flat tensor by name", [0.5] * 6, SHAPE),
        ("a tensor turned round", [[0.5] * 2] * 3, SHAPE),
        ("an empty tensor", [], SHAPE),
        ("a tensor of empty rows", [[], []], SHAPE),
        ("a row too many", [[0.5] * 3] * 3, SHAPE),
        ("a scalar", 0.5, SHAPE),
        ("one dimension too many", [[[0.5] * 3] * 2], SHAPE),
        ("ragged rows", [[0.5] * 3, [0.5] * 2], MALFORMED),
        ("rows and numbers", [[0.5] * 3, 0.5], MALFORMED),
        ("numbers and rows", [0.5, [0.5] * 3], MALFORMED),
        ("nesting 17 deep", _nested(17), MALFORMED),
        ("nesting 500 deep", _nested(500), MALFORMED),
        ("null", None, MALFORMED),
        ("a text", "0.5", MALFORMED),
        ("an object", {"0": 0.5}, MALFORMED),
        ("true", True, MALFORMED),
    ]:
        yield name, {**right, first: value}, wanted
    for value, wanted in [
        (True, MALFORMED), (False, MALFORMED), (None, MALFORMED), ("0.5", MALFORMED), ("NaN", MALFORMED),
        ({}, MALFORMED), (HUGE, MALFORMED), (-HUGE, MALFORMED), (float("nan"), NOT_FINITE), (float("inf"), NOT_FINITE),
        (-float("inf"), NOT_FINITE), (1e39, NOT_FINITE), (1e300, NOT_FINITE), (-1e39, NOT_FINITE), (10**39, NOT_FINITE),
        (3.5e38, NOT_FINITE), (1e30, (422, "update_norm_too_large")), (20, (422, "update_norm_too_large")),
        (0, (422, "update_all_zero")), (-0.0, (422, "update_all_zero")), (1e-46, (422, "update_all_zero")),
    ]:  # fmt: skip
        yield f"every number is {_short(value)}", filled(value), wanted
        if wanted in (MALFORMED, NOT_FINITE) or value == 1e30:
            yield f"the last number is {_short(value)}", {**right, "layers.2.bias": [0.5, value]}, wanted
    yield "a copy of another client's", _as_tensors(COPIED), (422, "update_copied")
    for name, beside, wanted in [
        ("an unknown key", {"accepted": True}, MALFORMED),
        ("samples as text", {"num_samples": "9"}, SAMPLES),
        ("samples as a boolean", {"num_samples": True}, SAMPLES),
        ("samples as a fraction", {"num_samples": 1.0}, SAMPLES),
        ("a negative number of samples", {"num_samples": -1}, SAMPLES),
        ("a loss as text", {"final_loss": "low"}, LOSS),
        ("a loss of NaN", {"final_loss": float("nan")}, LOSS),
        ("a negative loss", {"final_loss": -1}, LOSS),
        ("a loss of 4000 digits", {"final_loss": HUGE}, LOSS),
    ]:
        yield f"wrapped with {name}", {"weight_delta": right, **beside}, wanted
    for value in [None, 7, "text", True]:
        yield f"wrapped {_short(value)}", {"weight_delta": value}, MALFORMED


def _nested(depth: int) -> Any:
    value: Any = 0.5
    for _ in range(depth):
        value = [value]
    return value


def _as_tensors(flat: list[float]) -> dict[str, Any]:
    rest, tensors = list(flat), {}
    for name, shape in SHAPES.items():
        rows = [[rest.pop(0) for _ in range(shape[-1])] for _ in range(shape[0] if len(shape) == 2 else 1)]
        tensors[name] = rows if len(shape) == 2 else rows[0]
    return tensors


def _job(body: bytes, kind: str) -> Build:
    return lambda stage: request("POST", "/jobs", body, key=stage.names["operator"], kind=kind)


def _jobs() -> Iterator[tuple[str, bytes, str, Wanted]]:
    json_, toml = "application/json", "application/toml"
    for name, body in BROKEN.items():
        yield f"{name} as JSON", body, json_, INVALID
    for name, text, wanted in [
        ("an open key", b"name = ", JOB), ("no TOML", b"\xff\xfe", INVALID), ("JSON", b'{"name": "x"}', JOB),
        ("an unknown key", b'nam = "x"', JOB), ("no rounds", b"[rounds]\ntotal = 0", JOB),
        ("a text for a number", b'[rounds]\ntotal = "5"', JOB),
        ("a boolean for a number", b"[rounds]\ntotal = true", JOB),
        ("a name with a slash", b'name = "a/b"', JOB), ("an endless rate", b"[training]\nlr = inf", JOB),
        ("a rate of nan", b"[training]\nlr = nan", JOB), ("5000 digits", b"seed = " + b"9" * 5_000, JOB),
        ("a section twice", b"[rounds]\n[rounds]", JOB), ("brackets without end", b"a = " + b"[" * 5_000, JOB),
        ("a norm below zero", b"[privacy]\nmax_update_norm = -1.0", JOB),
        ("too many samples", b"[privacy]\nmax_num_samples = 10_000_001", JOB),
        ("a minimum above the target", b"[rounds]\ntarget_updates = 1\nmin_updates = 2", JOB),
        ("a model too large", b'[model]\nname = "linear"\nargs = { input_dim = 9_000_000_000, output_dim = 9 }', JOB),
        ("an unknown model", b'[model]\nname = "unknown"', JOB),
        ("a name that is taken", b'name = "default"', (409, "job_exists")),
        ("comments without end", b"#" * 100_001, TOO_LARGE),
    ]:  # fmt: skip
        yield f"{name} as TOML", text, toml, wanted
    x, endless = {"name": "x"}, [{"name": "w", "shape": [2**40]}]
    for name, message, wanted in [
        ("no job", {}, INVALID),
        ("a job of null", {"job": None}, INVALID),
        ("a field too many", {"job": {}, "x": 1}, INVALID),
        ("a first model that is no base64", {"job": x, "first_model": "!"}, INVALID),
        ("a first model that is none", {"job": x, "first_model": "AAAA"}, (422, "model_malformed")),
        ("parameters that are none", {"job": x, "parameters": [{"name": 1}]}, JOB),
        ("parameters of another model", {"job": x, "parameters": [{"name": "w", "shape": [1]}]}, JOB),
        ("parameters without end", {"job": {**x, "model": {"name": "p"}}, "parameters": endless}, JOB),
    ]:
        yield name, say(message), json_, wanted
