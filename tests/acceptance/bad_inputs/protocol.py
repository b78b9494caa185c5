"""What is wrong with the moment or the object: another's task, one that has ended, a round, a version, a piece."""

from collections.abc import Iterator

import numpy as np

from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.messages import SAFETENSORS
from tests.acceptance.bad_inputs.case import JSON, Build, Case, Wanted, case, get, request, say
from tests.acceptance.bad_inputs.messages import filled
from tests.acceptance.bad_inputs.stage import Stage

INVALID, NOT_FOUND, NO_TASK = (422, "invalid_request"), (404, "not_found"), (404, "task_not_found")
NO_ROUND, NO_VERSION, NO_JOB, NO_CLIENT = (
    (404, "round_not_found"), (404, "version_not_found"), (404, "job_not_found"), (404, "client_not_found")
)  # fmt: skip
OVER, EXPIRED, CONFLICT = (410, "round_over"), (410, "lease_expired"), (409, "update_conflict")
DENIED, UNASSIGNED, OFFSET = (401, "authentication_failed"), (403, "not_assigned"), (409, "upload_offset_mismatch")
PIECE = "application/partial-upload"

TASKS: dict[str, tuple[str, str]] = {
    "another client's": ("{others_task}", "{key}"),
    "unknown": ("t_000000000000000000000000", "{key}"),
    "late": ("{late_task}", "{late_key}"),
    "released": ("{gone_task}", "{gone_key}"),
    "reported": ("{reported_task}", "{reported_key}"),
    "evaluation": ("{judge_task}", "{judge_key}"),
    "late, another client's": ("{late_task}", "{key}"),
    "evaluation, another client's": ("{judge_task}", "{key}"),
}
"""Tasks in every state but live, with a key."""

BAD_TASK_IDS = [
    "x", "t_", "t_short", "T_000000000000000000000000", "t_00000000000000000000000G", "t_0000000000000000000000000",
    "t_000000000000000000000000%20", "t_00000000000000000000000%00", "%74", "1", "-1", "null", "*", "t_" + "0" * 5_000,
    "t_%F0%9F%92%A9", "%2e%2e",
]  # fmt: skip
BAD_NUMBERS = [
    "0",
    "-1",
    "1.5",
    "1e3",
    "one",
    "0x1",
    "%20",
    "%00",
    "NaN",
    "%D9%A1",
    "9007199254740993",
    "9" * 400,
    "1,2",
    "v1",
]
BAD_VERSIONS = [
    "3",
    "v",
    "v0",
    "v-1",
    "v01",
    "v1.0",
    "V1",
    "vlatest",
    "LATEST",
    "v9999999999",
    "%20v1",
    "v1%00",
    "..%2fv1",
]
BAD_NAMES = ["%20", "a%20b", "-a", ".a", "%F0%9F%92%A9", "%00", "a%00", "x" * 65, "<b>", "..%2f..", "%2e%2e", "a%0Ab"]
BAD_JOBS = ["UPPER", "a%20b", "-a", "%00", "x" * 65, "a.b", "%F0%9F%92%A9", "..", ""]


def cases() -> Iterator[Case]:
    """Return every case of this class."""
    for name, (task, key) in TASKS.items():
        yield from _on_a_task(name, task, key)
    for task in BAD_TASK_IDS:
        for call in ("PUT", "PATCH", "HEAD", "heartbeat", "DELETE"):
            yield case(f"{call} of a task called {task[:30]}", _call(call, task, "{key}"), INVALID, NOT_FOUND)
    yield from _by_round()
    yield from _pieces()
    yield from _reads()


def _call(call: str, task: str, key: str) -> Build:
    """Build a right call for a task."""

    def build(stage: Stage) -> bytes:
        path, secret = f"/tasks/{stage.fill(task)}", stage.fill(key)
        if call == "DELETE":
            return request("DELETE", path, key=secret)
        if call in ("heartbeat", "evaluation"):
            message = {"progress": 0.5} if call == "heartbeat" else {"num_samples": 10, "loss": 0.5}
            return request("POST", f"{path}/{call}", say(message), key=secret, kind=JSON)
        if call == "HEAD":
            return request("HEAD", f"{path}/update", key=secret)
        body = _right(stage)
        headers = (("Content-Digest", format_content_digest(sha256_hex(body))),)
        if call == "PUT":
            return request("PUT", f"{path}/update", body, key=secret, kind=SAFETENSORS, headers=headers)
        headers += (("Upload-Offset", "0"), ("Upload-Complete", "?1"))
        return request("PATCH", f"{path}/update", body, key=secret, kind=PIECE, headers=headers)

    return build


def _right(stage: Stage) -> bytes:
    return stage.holders["default"].encode(np.linspace(0.1, 0.9, 20))


def _on_a_task(name: str, task: str, key: str) -> Iterator[Case]:
    refusals: dict[str, dict[str, Wanted]] = {
        "late": dict.fromkeys(("PUT", "PATCH"), OVER) | {"DELETE": EXPIRED, "evaluation": NO_TASK},
        "released": dict.fromkeys(("PUT", "PATCH"), OVER) | {"evaluation": NO_TASK},
        "reported": dict.fromkeys(("PUT", "PATCH"), CONFLICT) | {"DELETE": EXPIRED, "evaluation": NO_TASK},
        "evaluation": dict.fromkeys(("PUT", "PATCH"), NO_TASK),
    }
    everything = dict.fromkeys(("PUT", "PATCH", "HEAD", "heartbeat", "evaluation", "DELETE"), NO_TASK)
    for call, wanted in refusals.get(name, everything).items():
        yield case(f"{call} of a task: {name}", _call(call, task, key), wanted)


def _update(round_id: str, client: str, key: str) -> Build:
    def build(stage: Stage) -> bytes:
        message = {"client_id": stage.fill(client), "round_id": int(stage.fill(round_id)), "weight_delta": filled(0.3)}
        return request("POST", "/update", say(message), key=stage.fill(key), kind=JSON)

    return build


def _by_round() -> Iterator[Case]:
    for name, round_id, client, key, wanted in [
        ("a round that has not begun", "9999", "{client}", "{key}", NO_ROUND),
        ("a round of another job", "{ended_round}", "{client}", "{key}", UNASSIGNED),
        ("an ended round", "{ended_round}", "late", "{late_key}", OVER),
        ("a round whose task was given back", "{ended_round}", "gone", "{gone_key}", OVER),
        ("a round that has its update", "{round}", "reporter", "{reported_key}", CONFLICT),
        ("a round without a task of it", "{round}", "late", "{late_key}", UNASSIGNED),
        ("another client's round", "{round}", "other", "{key}", DENIED),
        ("its own round with another's key", "{round}", "{client}", "{others_key}", DENIED),
        ("an operator's key", "{round}", "{client}", "{operator}", DENIED),
        ("a client that is not there", "{round}", "nobody", "{key}", DENIED),
    ]:
        yield case(f"an update for {name}", _update(round_id, client, key), wanted)


def _piece(headers: dict[str, str | None], body: bytes = b"piece") -> Build:
    given: dict[str, str | None] = {"Content-Type": PIECE, "Upload-Offset": "0", **headers}
    fields = tuple((name, value) for name, value in given.items() if value is not None)
    return lambda stage: request("PATCH", stage.fill("/tasks/{task}/update"), body, key=stage.key, headers=fields)


def _pieces() -> Iterator[Case]:
    digest = format_content_digest("0" * 64)
    for kind in (SAFETENSORS, JSON, "application/octet-stream", "", None):
        yield case(f"a piece as {kind}", _piece({"Content-Type": kind}), (415, "content_type_unsupported"))
    yield case("a piece that is coded", _piece({"Content-Encoding": "gzip"}), (415, "content_type_unsupported"))
    for offset in (None, "", "-1", "1.5", "one", "0x1", "1e3", "9" * 30, "٣".encode().decode("latin-1")):
        yield case(f"a piece at {offset!r}", _piece({"Upload-Offset": offset}), INVALID)
    for offset in ("1", "7", "100", "8000"):
        yield case(f"a piece at {offset}, where nothing is", _piece({"Upload-Offset": offset}), OFFSET)
    for offset in ("8300", "1000000", str(2**53)):
        yield case(f"a piece at {offset}, behind the end", _piece({"Upload-Offset": offset}), (413, "body_too_large"))
    for complete in ("yes", "1", "?2", "true", "", "?1?0", "?"):
        yield case(f"a piece complete {complete!r}", _piece({"Upload-Complete": complete}), INVALID)
    whole = b"\0" * 300
    last: dict[str, str | None] = {"Upload-Complete": "?1"}
    yield case("a last piece without a digest", _piece(last, whole), (400, "digest_missing"))
    yield case("a last piece that is too short", _piece({**last, "Content-Digest": digest}), (422, "update_malformed"))
    yield case("a last piece of zeros", _piece({**last, "Content-Digest": digest}, whole), (422, "update_malformed"))
    yield case("a piece longer than any update", _piece({}, b"\0" * 20_000), (413, "body_too_large"))
    yield case("a piece that begins with a header too long", _piece({}, b"\xff" * 300), (422, "update_malformed"))
    yield case("a piece without a length", _unmeasured(), (411, "length_required"))


def _unmeasured() -> Build:
    fields = (("Upload-Offset", "0"), ("Transfer-Encoding", "chunked"))
    return lambda stage: request(
        "PATCH",
        stage.fill("/tasks/{task}/update"),
        b"5\r\npiece\r\n0\r\n\r\n",
        key=stage.key,
        kind=PIECE,
        headers=fields,
    )


def _steer(path: str) -> Build:
    return lambda stage: request("POST", path, b"", key=stage.names["operator"])


def _reads() -> Iterator[Case]:
    for path in ("/status/{}", "/aggregate/{}", "/metrics/round/{}", "/async/round/{}/stats"):
        for number in BAD_NUMBERS:
            yield case(f"GET {path.format(number)[:60]}", get(path.replace("{}", number)), INVALID, NOT_FOUND)
        yield case(f"GET {path.format(9999)}", get(path.replace("{}", "9999")), NO_ROUND)
    yield case("GET /aggregate of a round that collects", get("/aggregate/{round}"), (409, "round_not_closed"))
    for version in BAD_VERSIONS:
        yield case(f"GET /model/{version}", get(f"/model/{version}"), INVALID, NOT_FOUND)
    for version in ("v2", "v99", "v999999999"):
        yield case(f"GET /model/{version}", get(f"/model/{version}"), NO_VERSION)
    raw = (("Accept", SAFETENSORS), ("Range", "bytes=999999-"))
    yield case(
        "GET /model beyond its end", lambda _: request("GET", "/model/v1", headers=raw), (416, "range_not_satisfiable")
    )
    none = (("Accept", SAFETENSORS), ("Range", "bytes=-0"))
    yield case(
        "GET the last 0 bytes of /model",
        lambda _: request("GET", "/model/v1", headers=none),
        (416, "range_not_satisfiable"),
    )
    for path in ("/reputation/{}", "/incentives/{}"):
        for name in BAD_NAMES:
            yield case(f"GET {path.format(name)[:60]}", get(path.replace("{}", name)), INVALID, NOT_FOUND)
        yield case(f"GET {path.format('nobody')}", get(path.replace("{}", "nobody")), NO_CLIENT)
    for job in BAD_JOBS:
        yield case(f"GET /jobs/{job[:40]}", get(f"/jobs/{job}"), INVALID, NOT_FOUND)
        for path in ("/task/{client}", "/model/v1", "/events"):
            yield case(f"GET {path} of the job {job[:40]!r}", get(f"{path}?job={job}", key=True), INVALID)
    for act in ("pause", "resume", "stop"):
        for job in BAD_JOBS:
            yield case(f"POST /jobs/{job[:40]}/{act}", _steer(f"/jobs/{job}/{act}"), INVALID, NOT_FOUND)
        yield case(f"POST /jobs/nobody/{act}", _steer(f"/jobs/nobody/{act}"), NO_JOB)
        yield case(f"POST /jobs/ended/{act}, which is over", _steer(f"/jobs/ended/{act}"), (409, "job_over"))
        yield case(f"GET /jobs/default/{act}", get(f"/jobs/default/{act}"), (405, "method_not_allowed"))
    for query in ("after=0", "after=v0", "after=latest", "limit=0", "limit=101", "limit=x"):
        yield case(f"GET /jobs/default/manifests?{query}", get(f"/jobs/default/manifests?{query}"), INVALID)
    for path in ("/jobs/nobody", "/jobs/nobody/manifests", "/model/v1?job=nobody", "/events?job=nobody"):
        yield case(f"GET {path}", get(path), NO_JOB)
    for wait in ("-1", "31", "nan", "inf", "soon", "1e9", "", "0x1", "1_0_0"):
        yield case(f"GET /task waiting {wait!r}", get("/task/{client}?wait=" + wait, key=True), INVALID)
    for after in ("-1", "x", "1.5", "nan", "9" * 30, ""):
        yield case(f"GET /events after {after[:10]!r}", get("/events?after=" + after), INVALID)
    events = (("Last-Event-ID", "soon"),)
    yield case("GET /events after a text", lambda _: request("GET", "/events", headers=events), INVALID)
