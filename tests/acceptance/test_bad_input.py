"""Wrong requests of every kind: a problem with a stable code, never a 5xx, and nothing on record changes."""

import json
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
import pytest

from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.messages import SAFETENSORS
from tests.acceptance.conftest import SMALL_JOB, Member, Serve, Served, problem, update_body

HUGE = 10**40
NAUGHTY = "\ud800"
"""A lone surrogate: JSON can say it, UTF-8 cannot."""


@dataclass
class Setting:
    """A server with a round that has begun, and a member who holds a task of it."""

    served: Served
    member: Member
    task: dict[str, Any]

    def fill(self, text: str) -> str:
        """Put the real task id and key where the table has their names."""
        return text.replace("TASK", self.task["task_id"]).replace("KEY", self.member.key)


@pytest.fixture(scope="module")
def setting(serve_job: Serve) -> Setting:
    served = serve_job(json_max_bytes=100_000, updates_per_minute=100_000, requests_per_minute=100_000)
    member = served.join("client-1")
    return Setting(served, member, member.task())


def refused(setting: Setting, request: httpx2.Request, status: int, code: str) -> dict[str, Any]:
    """Send a request that must be refused; check the refusal, and that it left no trace."""
    before = setting.served.records_digest()
    answer = setting.member.http.send(request)
    document = problem(answer, status, code)
    assert setting.served.records_digest() == before
    assert setting.member.key not in answer.text
    return document


T = "/tasks/TASK"
NOBODY = "/tasks/t_000000000000000000000000"

WRONG_PATHS_AND_QUERIES = [
    ("GET", "/nowhere", 404, "not_found"),
    ("POST", "/metrics", 405, "method_not_allowed"),
    ("PUT", "/update", 405, "method_not_allowed"),
    ("GET", "/task/somebody-else", 401, "authentication_failed"),
    ("GET", "/task/%00", 422, "invalid_request"),
    ("GET", "/task/client-1?wait=-1", 422, "invalid_request"),
    ("GET", "/task/client-1?wait=31", 422, "invalid_request"),
    ("GET", "/task/client-1?wait=nan", 422, "invalid_request"),
    ("GET", "/task/client-1?wait=soon", 422, "invalid_request"),
    ("GET", "/task/client-1?job=No%20Job", 422, "invalid_request"),
    ("GET", "/task/client-1?api_key=" + "x" * 300, 422, "invalid_request"),
    ("GET", "/model/3", 422, "invalid_request"),
    ("GET", "/model/v0", 422, "invalid_request"),
    ("GET", "/model/v9999999999", 422, "invalid_request"),
    ("GET", "/model/v99", 404, "version_not_found"),
    ("GET", "/model/v1?job=unknown", 404, "job_not_found"),
    ("GET", "/status/0", 422, "invalid_request"),
    ("GET", "/status/-1", 422, "invalid_request"),
    ("GET", "/status/1.5", 422, "invalid_request"),
    ("GET", "/status/one", 422, "invalid_request"),
    ("GET", f"/status/{HUGE}", 422, "invalid_request"),
    ("GET", "/status/999", 404, "round_not_found"),
    ("GET", "/aggregate/one", 422, "invalid_request"),
    ("GET", "/aggregate/999", 404, "round_not_found"),
    ("GET", "/aggregate/1", 409, "round_not_closed"),
    ("GET", "/metrics/round/x", 422, "invalid_request"),
    ("GET", "/metrics/round/999", 404, "round_not_found"),
    ("GET", "/async/round/x/stats", 422, "invalid_request"),
    ("GET", "/async/round/999/stats", 404, "round_not_found"),
    ("GET", "/reputation/nobody", 404, "client_not_found"),
    ("GET", "/reputation/%F0%9F%92%A9", 422, "invalid_request"),
    ("GET", "/incentives/nobody", 404, "client_not_found"),
    ("GET", "/incentives/%2E%2E", 422, "invalid_request"),
    ("GET", "/jobs/unknown", 404, "job_not_found"),
    ("GET", "/jobs/UPPER", 422, "invalid_request"),
    ("GET", "/events?after=-1", 422, "invalid_request"),
    ("GET", "/events?job=unknown", 404, "job_not_found"),
    ("DELETE", "/tasks/..%2F..%2Fetc", 404, "not_found"),
    ("DELETE", "/tasks/t_short", 422, "invalid_request"),
    ("DELETE", NOBODY, 404, "task_not_found"),
]

WRONG_JSON: list[tuple[str, Any, int, str]] = [
    ("/client/register", {"client_name": "client-1"}, 409, "client_name_taken"),
    ("/client/register", {"client_name": ""}, 422, "client_name_invalid"),
    ("/client/register", {"client_name": "a b"}, 422, "client_name_invalid"),
    ("/client/register", {"client_name": "x" * 65}, 422, "client_name_invalid"),
    ("/client/register", {"client_name": NAUGHTY}, 422, "client_name_invalid"),
    ("/client/register", {"client_name": 7}, 422, "invalid_request"),
    ("/client/register", {"name": "client-9"}, 422, "invalid_request"),
    ("/client/register", {NAUGHTY: 1}, 422, "invalid_request"),
    ("/client/register", {"capabilities": {"cpu_count": 0}}, 422, "invalid_request"),
    ("/client/register", {"client_name": "x" * 70_000}, 413, "body_too_large"),
    ("/client/register", [], 422, "invalid_request"),
    ("/client/register", None, 422, "invalid_request"),
    (f"{T}/heartbeat", {"progress": 2}, 422, "invalid_request"),
    (f"{T}/heartbeat", {"progress": "half"}, 422, "invalid_request"),
    (f"{NOBODY}/heartbeat", {}, 404, "task_not_found"),
    (f"{T}/evaluation", {"num_samples": 1, "loss": 1.0}, 404, "task_not_found"),
    (f"{T}/evaluation", {"num_samples": 0, "loss": 1.0}, 422, "invalid_request"),
    (f"{T}/evaluation", {"num_samples": True, "loss": 1.0}, 422, "invalid_request"),
    (f"{T}/evaluation", {"num_samples": 1, "loss": 1.0, "accuracy": 1.5}, 422, "invalid_request"),
    ("/jobs", {"job": {"name": "mine"}}, 403, "permission_denied"),
]


def updates() -> list[tuple[dict[str, Any], int, str]]:
    """Return wrong `POST /update` bodies by what is changed in a right one."""
    right = {name: np.zeros(shape).tolist() for name, shape in SHAPES.items()}
    first = next(iter(right))
    return [
        ({"client_id": "somebody-else"}, 401, "authentication_failed"),
        ({"client_id": NAUGHTY}, 401, "authentication_failed"),
        ({"client_id": None}, 422, "invalid_request"),
        ({"round_id": 999}, 404, "round_not_found"),
        ({"round_id": HUGE}, 404, "round_not_found"),
        ({"round_id": -1}, 404, "round_not_found"),
        ({"round_id": "1"}, 422, "invalid_request"),
        ({"round_id": True}, 422, "invalid_request"),
        ({"num_samples": 0}, 422, "invalid_request"),
        ({"num_samples": 10**9}, 422, "invalid_request"),
        ({"loss": float("nan")}, 422, "invalid_request"),
        ({"weight_delta": 7}, 422, "invalid_request"),
        ({"weight_delta": "not json"}, 422, "update_malformed"),
        ({"weight_delta": "{...}"}, 422, "update_malformed"),
        ({"weight_delta": "7"}, 422, "update_malformed"),
        ({"weight_delta": "[" * 50_000}, 422, "update_malformed"),
        ({"weight_delta": {}}, 422, "update_tensor_mismatch"),
        ({"weight_delta": []}, 422, "update_tensor_mismatch"),
        ({"weight_delta": {**right, "extra": [0.0]}}, 422, "update_tensor_mismatch"),
        ({"weight_delta": {**right, first: [0.0]}}, 422, "update_shape_mismatch"),
        ({"weight_delta": {**right, first: [["a"]]}}, 422, "update_malformed"),
        ({"weight_delta": {**right, first: [[1.0], [1.0, 2.0]]}}, 422, "update_malformed"),
        ({"weight_delta": {**right, first: np.full(SHAPES[first], np.nan).tolist()}}, 422, "update_not_finite"),
        ({"weight_delta": {**right, first: np.full(SHAPES[first], 1e300).tolist()}}, 422, "update_not_finite"),
        ({"weight_delta": {**right, first: np.full(SHAPES[first], 1e30).tolist()}}, 422, "update_norm_too_large"),
        ({"weight_delta": "x" * 100_000}, 413, "body_too_large"),
    ]


SHAPES = {
    "layers.0.weight": (2, 3),
    "layers.0.bias": (2,),
    "layers.1.weight": (2, 2),
    "layers.1.bias": (2,),
    "layers.2.weight": (2, 2),
    "layers.2.bias": (2,),
}


@pytest.mark.parametrize(("method", "path", "status", "code"), WRONG_PATHS_AND_QUERIES)
def test_a_wrong_path_or_query_is_refused(setting: Setting, method: str, path: str, status: int, code: str) -> None:
    refused(setting, setting.member.http.build_request(method, setting.fill(path)), status, code)


@pytest.mark.parametrize(("path", "message", "status", "code"), WRONG_JSON)
def test_a_wrong_message_is_refused(setting: Setting, path: str, message: Any, status: int, code: str) -> None:
    request = json_request(setting, path, json.dumps(message).encode())
    document = refused(setting, request, status, code)
    if code == "invalid_request" and document.get("errors"):
        assert {"field", "found", "wanted"} == document["errors"][0].keys()


@pytest.mark.parametrize(("changed", "status", "code"), updates())
def test_a_wrong_json_update_is_refused(setting: Setting, changed: dict[str, Any], status: int, code: str) -> None:
    right = {name: np.zeros(shape).tolist() for name, shape in SHAPES.items()}
    message = {"client_id": "client-1", "round_id": 1, "weight_delta": right, **changed}
    refused(setting, json_request(setting, "/update", json.dumps(message).encode()), status, code)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b'{"client_name": "a", "client_name": "b"}', b"[" * 60_000, b'{"client_name": NaN}'],
)
@pytest.mark.parametrize("path", ["/client/register", "/update", f"{T}/heartbeat"])
def test_a_body_that_is_no_message_is_refused(setting: Setting, path: str, body: bytes) -> None:
    refused(setting, json_request(setting, path, body), 422, "invalid_request")


@pytest.mark.parametrize("path", ["/client/register", "/update", f"{T}/heartbeat"])
def test_a_body_of_another_type_is_refused(setting: Setting, path: str) -> None:
    headers = {"Content-Type": "text/plain"}
    request = setting.member.http.build_request("POST", setting.fill(path), content=b"{}", headers=headers)
    refused(setting, request, 415, "content_type_unsupported")


@pytest.mark.parametrize("version", ["0", "2", "1.x", "one", "99999999", "-1"])
def test_an_unknown_protocol_is_refused_with_the_range_that_is_spoken(setting: Setting, version: str) -> None:
    request = setting.member.http.build_request("GET", "/", headers={"Fed-Compute-Protocol": version})
    document = refused(setting, request, 426, "protocol_unsupported")
    assert (document["lowest"], document["highest"]) == (1, 1)


@pytest.mark.parametrize("key", ["x", "sk_", "Bearer", "sk_0000000000_" + "0" * 49])
def test_a_wrong_key_is_refused_everywhere_a_key_is_needed(setting: Setting, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    for method, path in (("GET", "/task/client-1"), ("DELETE", T), ("PUT", f"{T}/update"), ("POST", "/jobs")):
        request = setting.member.http.build_request(method, setting.fill(path), headers=headers)
        refused(setting, request, 401, "authentication_failed")


def test_an_operators_key_is_not_a_clients(setting: Setting) -> None:
    headers = {"Authorization": f"Bearer {setting.served.operator_key}"}
    for method, path in (("GET", "/task/client-1"), ("DELETE", T)):
        request = setting.member.http.build_request(method, setting.fill(path), headers=headers)
        refused(setting, request, 401, "authentication_failed")


WRONG_UPLOADS: list[tuple[dict[str, str | None], int, str]] = [
    ({"Content-Type": "application/octet-stream"}, 415, "content_type_unsupported"),
    ({"Content-Type": f"{SAFETENSORS}+zstd"}, 415, "content_type_unsupported"),
    ({"Content-Type": None}, 415, "content_type_unsupported"),
    ({"Content-Encoding": "gzip"}, 415, "content_type_unsupported"),
    ({"Content-Digest": None}, 400, "digest_missing"),
    ({"Content-Digest": "sha-256=abc"}, 400, "digest_missing"),
    ({"Content-Digest": "md5=:abc:"}, 400, "digest_missing"),
    ({"Content-Digest": format_content_digest("0" * 64)}, 400, "digest_mismatch"),
]


@pytest.mark.parametrize(("changed", "status", "code"), WRONG_UPLOADS)
def test_an_upload_with_wrong_headers_is_refused(
    setting: Setting, changed: dict[str, str | None], status: int, code: str
) -> None:
    refused(setting, upload_request(setting, update_body(setting.task), changed), status, code)


def test_an_upload_without_its_length_is_refused(setting: Setting) -> None:
    body = update_body(setting.task)
    request = upload_request(setting, iter([body]), {"Content-Digest": format_content_digest(sha256_hex(body))})
    refused(setting, request, 411, "length_required")


def test_an_upload_longer_than_any_update_of_the_job_is_refused(setting: Setting) -> None:
    refused(setting, upload_request(setting, b"x" * 20_000, {}), 413, "body_too_large")


@pytest.mark.parametrize("body", [b"", b"x", b"\x00" * 200, b"\xff" * 200])
def test_an_upload_that_is_no_update_is_refused(setting: Setting, body: bytes) -> None:
    refused(setting, upload_request(setting, body, {}), 422, "update_malformed")


def test_a_damaged_update_is_refused_at_every_length(setting: Setting) -> None:
    body = update_body(setting.task)
    for length in range(0, len(body), 37):
        refused(setting, upload_request(setting, body[:length], {}), 422, "update_malformed")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": SAFETENSORS, "Upload-Offset": "0"}, 415, "content_type_unsupported"),
        ({}, 422, "invalid_request"),
        ({"Upload-Offset": "-1"}, 422, "invalid_request"),
        ({"Upload-Offset": "0", "Upload-Complete": "yes"}, 422, "invalid_request"),
        ({"Upload-Offset": "7"}, 409, "upload_offset_mismatch"),
        ({"Upload-Offset": "0", "Upload-Complete": "?1"}, 400, "digest_missing"),
    ],
)
def test_a_wrong_piece_is_refused(setting: Setting, headers: dict[str, str], status: int, code: str) -> None:
    given = {"Content-Type": "application/partial-upload", **headers}
    path = setting.fill(f"{T}/update")
    request = setting.member.http.build_request("PATCH", path, content=b"piece", headers=given)
    refused(setting, request, status, code)


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        ("application/json", b"{}", 422, "invalid_request"),
        ("application/json", b'{"job": {"nam": "x"}}', 422, "job_file_invalid"),
        ("application/json", b'{"job": {"name": "UP"}}', 422, "job_file_invalid"),
        ("application/json", b'{"job": {"name": "x", "model": {"name": "unknown"}}}', 422, "job_file_invalid"),
        ("application/json", b'{"job": {"name": "x"}, "first_model": "!"}', 422, "invalid_request"),
        ("application/json", b'{"job": {"name": "x"}, "first_model": "AAAA"}', 422, "model_malformed"),
        ("application/json", b'{"job": {"name": "x"}, "parameters": [{"name": 1}]}', 422, "job_file_invalid"),
        ("application/json", b'{"job": {"name": "default"}}', 409, "job_exists"),
        ("application/toml", b"name = ", 422, "job_file_invalid"),
        ("application/toml", b"\xff", 422, "invalid_request"),
        ("application/toml", b"[rounds]\ntotal = 0", 422, "job_file_invalid"),
        ("application/yaml", b"name: x", 415, "content_type_unsupported"),
        ("application/toml", b"#" * 100_001, 413, "body_too_large"),
    ],
)
def test_a_wrong_job_is_refused(setting: Setting, kind: str, body: bytes, status: int, code: str) -> None:
    headers = {"Authorization": f"Bearer {setting.served.operator_key}", "Content-Type": kind}
    refused(setting, setting.member.http.build_request("POST", "/jobs", content=body, headers=headers), status, code)


def test_too_many_requests_are_told_when_to_come_back(serve_job: Serve) -> None:
    served = serve_job(requests_per_minute=3, registrations_per_hour=1)
    member = served.join("client-1")
    answers = [member.get_task() for _ in range(4)]
    problem(answers[-1], 429, "rate_limited")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    second = served.http.post("/client/register", json={"client_name": "client-2"})
    problem(second, 429, "rate_limited")


def test_a_server_without_a_job_answers_what_it_can(serve_job: Serve) -> None:
    served = serve_job(None)
    assert served.http.get("/").json()["job"] is None
    assert served.http.get("/metrics").json()["total_rounds"] == 0
    for path in ("/model/latest", "/metrics/latest"):
        problem(served.http.get(path), 404, "job_not_found")
    member = served.join("client-1")
    assert member.get_task().status_code == 204


def test_an_abandoned_round_has_no_result_and_says_so(serve_job: Serve) -> None:
    served = serve_job(SMALL_JOB.replace("deadline_seconds = 600", "deadline_seconds = 0.2"))
    served.join("client-1").task()
    state = ""
    while state != "ABANDONED":
        state = served.http.get("/status/1").json()["state"]
    document = problem(served.http.get("/aggregate/1"), 409, "round_not_closed")
    assert "given up" in document["detail"]


def json_request(setting: Setting, path: str, body: bytes) -> httpx2.Request:
    headers = {"Content-Type": "application/json"}
    return setting.member.http.build_request("POST", setting.fill(path), content=body, headers=headers)


def upload_request(setting: Setting, body: Any, changed: dict[str, str | None]) -> httpx2.Request:
    """Return a PUT of a right update with some headers changed, or left out where None."""
    right: dict[str, str | None] = {"Content-Type": SAFETENSORS}
    if isinstance(body, bytes):
        right["Content-Digest"] = format_content_digest(sha256_hex(body))
    headers = {name: value for name, value in {**right, **changed}.items() if value is not None}
    return setting.member.http.build_request("PUT", setting.fill(f"{T}/update"), content=body, headers=headers)
