"""The binary protocol over real HTTP: whole and resumed uploads, downloads, waiting, leases."""

import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.messages import SAFETENSORS
from tests.acceptance.conftest import SMALL_JOB, Member, Serve, Served, problem, update_body

RAW = {"Accept": SAFETENSORS}


@pytest.fixture(scope="module")
def shared(serve_job: Serve) -> Served:
    """Return one server for tests that only read."""
    return serve_job()


def put_head(served: Served, member: Member, task: dict[str, Any], body: bytes) -> bytes:
    """Return the head of a PUT of `body`, for tests that speak through a bare socket."""
    lines = [
        f"PUT /tasks/{task['task_id']}/update HTTP/1.1",
        f"Host: {urlsplit(served.url).netloc}",
        f"Authorization: Bearer {member.key}",
        "Fed-Compute-Protocol: 1",
        f"Content-Type: {SAFETENSORS}",
        f"Content-Length: {len(body)}",
        f"Content-Digest: {format_content_digest(sha256_hex(body))}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def connect(served: Served) -> socket.socket:
    address = urlsplit(served.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def stored(member: Member, task: dict[str, Any]) -> tuple[int, bool]:
    """Ask how much of an update has arrived, and whether it is accepted."""
    answer = member.http.head(f"/tasks/{task['task_id']}/update")
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"]), answer.headers["upload-complete"] == "?1"


def wait_for_stored(member: Member, task: dict[str, Any], wanted: int) -> None:
    give_up_at = time.monotonic() + 20
    while (found := stored(member, task)[0]) != wanted:
        assert time.monotonic() < give_up_at, f"{found} bytes are stored, waiting for {wanted}"
        time.sleep(0.02)


def patch(member: Member, task: dict[str, Any], piece: bytes, *, offset: int, whole: bytes | None) -> httpx2.Response:
    """Send a piece; `whole` is the complete body if this is the last piece."""
    headers = {"Content-Type": "application/partial-upload", "Upload-Offset": str(offset)}
    if whole is not None:
        headers |= {"Upload-Complete": "?1", "Content-Digest": format_content_digest(sha256_hex(whole))}
    return member.http.patch(f"/tasks/{task['task_id']}/update", content=piece, headers=headers)


def fill_round(served: Served) -> list[tuple[Member, dict[str, Any]]]:
    """Let four clients take every place of the round."""
    members = [served.join(f"busy-{number}") for number in range(4)]
    return [(member, member.task()) for member in members]


def close_round(busy: list[tuple[Member, dict[str, Any]]]) -> None:
    """Send the two updates that close the round."""
    for member, task in busy[:2]:
        assert member.put(task, update_body(task)).status_code == 201


def test_an_update_is_created_once_and_repeated_as_often_as_wanted(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    body = update_body(task)
    first, second = member.put(task, body), member.put(task, body)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() | {"repeated": True} == second.json()
    assert first.json()["digest"] == sha256_hex(body)
    assert stored(member, task) == (len(body), True)
    assert server.http.get("/status/1").json()["total_updates"] == 1


def test_another_update_for_the_same_task_is_a_conflict_and_the_first_stands(server: Served) -> None:
    member = server.join("client-1")
    server.join("client-2")  # somebody to wait for: the round stays open
    task = member.task()
    assert member.put(task, update_body(task, value=1.0)).status_code == 201
    before = server.records_digest()
    problem(member.put(task, update_body(task, value=2.0)), 409, "update_conflict")
    assert server.records_digest() == before


def test_a_lost_reply_costs_nothing(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    body = update_body(task)
    with connect(server) as line:
        line.sendall(put_head(server, member, task, body) + body)
        give_up_at = time.monotonic() + 20
        while not stored(member, task)[1]:
            assert time.monotonic() < give_up_at
            time.sleep(0.02)
        # hang up without having read the answer
    again = member.put(task, body)
    assert (again.status_code, again.json()["repeated"]) == (200, True)


def test_an_upload_that_broke_off_is_continued_where_it_stopped(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    body = update_body(task)
    with connect(server) as line:
        line.sendall(put_head(server, member, task, body) + body[:100])
        time.sleep(0.2)  # let the bytes leave before the line is cut
    wait_for_stored(member, task, 100)
    assert stored(member, task) == (100, False)
    answer = patch(member, task, body[100:], offset=100, whole=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["digest"] == sha256_hex(body)
    assert stored(member, task) == (len(body), True)


def test_an_upload_may_come_in_many_pieces(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    body = update_body(task)
    for start in range(0, 120, 40):
        answer = patch(member, task, body[start : start + 40], offset=start, whole=None)
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(start + 40))
    assert patch(member, task, body[120:], offset=120, whole=body).status_code == 201
    assert patch(member, task, body, offset=0, whole=body).status_code == 200


def test_a_piece_at_the_wrong_place_is_refused_and_told_the_right_one(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    body = update_body(task)
    assert patch(member, task, body[:50], offset=0, whole=None).status_code == 204
    refused = problem(patch(member, task, body[60:], offset=60, whole=body), 409, "upload_offset_mismatch")
    assert (refused["got"], refused["want"]) == (60, 50)
    assert stored(member, task) == (50, False)


def test_no_piece_goes_beyond_what_an_update_can_be_and_what_came_before_stands(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    body = update_body(task)
    assert patch(member, task, body[:50], offset=0, whole=None).status_code == 204
    problem(patch(member, task, bytes(1 << 20), offset=50, whole=None), 413, "body_too_large")
    assert stored(member, task) == (50, False)
    assert patch(member, task, body[50:], offset=50, whole=body).status_code == 201


def test_pieces_that_do_not_make_the_announced_whole_are_refused_and_forgotten(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    body = update_body(task)
    assert patch(member, task, b"\x00".join([body[:49], b""]), offset=0, whole=None).status_code == 204
    problem(patch(member, task, body[50:], offset=50, whole=body), 400, "digest_mismatch")
    assert stored(member, task) == (0, False)
    assert member.put(task, body).status_code == 201


def test_nobody_else_can_continue_or_look_at_an_upload(server: Served) -> None:
    member, other = server.join("client-1"), server.join("client-2")
    task = member.task()
    body = update_body(task)
    assert patch(member, task, body[:50], offset=0, whole=None).status_code == 204
    problem(patch(other, task, body[50:], offset=50, whole=body), 404, "task_not_found")
    assert other.http.head(f"/tasks/{task['task_id']}/update").status_code == 404
    assert stored(member, task) == (50, False)


def test_what_came_of_an_update_is_forgotten_with_its_lease(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    part = server.coordinator.blobs.incoming(f"{task['task_id']}.update")
    assert patch(member, task, update_body(task)[:50], offset=0, whole=None).status_code == 204
    assert part.exists()
    assert member.http.delete(f"/tasks/{task['task_id']}").status_code == 200
    assert not part.exists()


def test_a_damaged_body_is_refused_and_forgotten(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    body = update_body(task)
    before = server.records_digest()
    headers = {"Content-Digest": format_content_digest(sha256_hex(body))}
    problem(member.put(task, body[:-1] + b"\x00", **headers), 400, "digest_mismatch")
    assert stored(member, task) == (0, False)
    assert server.records_digest() == before
    assert member.put(task, body).status_code == 201


def test_two_uploads_of_one_task_at_once_do_not_mix(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    body = update_body(task)
    with connect(server) as line:
        line.sendall(put_head(server, member, task, body) + body[:100])
        part = server.coordinator.blobs.incoming(f"{task['task_id']}.update")
        give_up_at = time.monotonic() + 20
        while not part.exists():  # until the first one has begun
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
        answer = member.put(task, body)
        problem(answer, 503, "upload_busy")
        assert int(answer.headers["retry-after"]) >= 1
        line.sendall(body[100:])
        assert line.recv(100).startswith(b"HTTP/1.1 201")


def test_an_update_of_an_ended_round_is_late_and_not_a_failure(server: Served) -> None:
    first, second, slow = (server.join(f"client-{number}") for number in (1, 2, 3))
    late = slow.task()
    for member in (first, second):
        task = member.task()
        assert member.put(task, update_body(task)).status_code == 201
    problem(slow.put(late, update_body(late)), 410, "round_over")
    assert server.http.get("/metrics/round/1").json()["updates_late"] == 1
    assert server.http.get("/reputation/client-3").json()["dropouts"] == 0


def test_a_compressed_job_takes_only_compressed_bodies(serve_job: Serve) -> None:
    served = serve_job(SMALL_JOB + '[wire]\nencoding = "int8"\ncompression = "zstd"\n')
    member = served.join("client-1")
    task = member.task()
    body = update_body(task)
    problem(member.put(task, body), 415, "content_type_unsupported")
    assert member.put(task, body, **{"Content-Type": f"{SAFETENSORS}+zstd"}).status_code == 201


def test_a_model_file_has_its_digest_as_a_strong_etag_and_never_changes(shared: Served) -> None:
    answer = shared.http.get("/model/v1", headers=RAW)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == SAFETENSORS
    assert answer.headers["etag"] == f'"{sha256_hex(answer.content)}"'
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    latest = shared.http.get("/model/latest", headers=RAW)
    assert latest.content == answer.content
    assert "immutable" not in latest.headers["cache-control"]
    head = shared.http.head("/model/v1", headers=RAW)
    assert (head.headers["content-length"], head.content) == (str(len(answer.content)), b"")


def test_a_known_model_file_is_not_sent_again(shared: Served) -> None:
    etag = shared.http.get("/model/v1", headers=RAW).headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        answer = shared.http.get("/model/v1", headers={**RAW, "If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
    assert shared.http.get("/model/v1", headers={**RAW, "If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-7", 0, 8), ("bytes=8-", 8, None), ("bytes=-5", -5, None), ("bytes=3-99999", 3, None)],
)
def test_a_part_of_a_model_file_can_be_had(shared: Served, asked: str, start: int, end: int | None) -> None:
    whole = shared.http.get("/model/v1", headers=RAW).content
    answer = shared.http.get("/model/v1", headers={**RAW, "Range": asked})
    assert answer.status_code == 206
    assert answer.content == whole[start:end]
    first = start % len(whole)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(whole)}"


def test_a_part_beyond_the_end_cannot_be_had(shared: Served) -> None:
    answer = shared.http.get("/model/v1", headers={**RAW, "Range": "bytes=99999-"})
    refused = problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{refused['size']}"


@pytest.mark.parametrize(
    "odd", [{"Range": "bytes=9-3"}, {"Range": "lines=1-2"}, {"Range": "bytes=0-1", "If-Range": '"x"'}]
)
def test_a_range_that_does_not_count_gives_the_whole_file(shared: Served, odd: dict[str, str]) -> None:
    assert shared.http.get("/model/v1", headers={**RAW, **odd}).status_code == 200


def test_a_model_too_large_for_json_is_had_as_a_file(serve_job: Serve) -> None:
    served = serve_job(json_max_parameters=10)
    problem(served.http.get("/model/v1"), 406, "model_too_large_for_json")
    assert served.http.get("/model/v1", headers=RAW).status_code == 200


def test_a_waiting_client_gets_its_task_when_the_next_round_opens(server: Served) -> None:
    busy, waiting = fill_round(server), server.join("waiting")
    nothing = waiting.get_task()
    assert nothing.status_code == 204
    assert (nothing.headers["fed-compute-reason"], nothing.content) == ("waiting", b"")
    assert nothing.headers["fed-compute-retry-window"] == "1.500-3.000"
    assert nothing.headers["retry-after"] in ("2", "3")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(waiting.get_task, wait=30)
        close_round(busy)
        assert answer.result(timeout=25).json()["round_id"] in (1, 2)


def test_waiting_ends_in_time_when_nothing_comes(server: Served) -> None:
    fill_round(server)
    idle = server.join("idle")
    began = time.monotonic()
    assert idle.get_task(wait=0.5).status_code == 204
    assert time.monotonic() - began >= 0.5


def test_nobody_is_kept_waiting_for_a_job_that_is_finished(serve_job: Serve) -> None:
    served = serve_job(SMALL_JOB.replace("total = 5", "total = 1"))
    idle = served.join("idle")
    close_round(fill_round(served))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(idle.get_task, wait=30, evaluate=False).result(timeout=25)
    assert (answer.status_code, answer.headers["fed-compute-reason"]) == (204, "job_finished")


def test_two_hundred_waiting_clients_leave_the_server_free_and_go_at_once_when_it_stops(
    serve_job: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve_job(heartbeat_seconds=300, shutdown_seconds=30)  # a busy machine must not decide
    busy = fill_round(served)
    waiting = [served.join(f"waiting-{number}") for number in range(200)]
    answers: list[int] = []

    def wait(member: Member) -> None:
        answers.append(member.get_task(wait=30).status_code)

    threads = [threading.Thread(target=wait, args=(member,)) for member in waiting]
    for thread in threads:
        thread.start()
    assert served.http.get("/healthz").status_code == 200
    assert served.http.get("/metrics").status_code == 200
    close_round(busy)
    give_up_at = time.monotonic() + 25
    while not answers and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert answers[:1] == [200], "nobody who waited was given a task of the next round"
    served.stop()  # a server that stops lets everybody who waits go
    for thread in threads:
        thread.join()
    assert set(answers) == {200, 204}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_client_that_hangs_up_while_waiting_takes_no_task(server: Served) -> None:
    busy = fill_round(server)
    gone = server.join("gone")
    with pytest.raises(httpx2.ReadTimeout):
        gone.http.get("/task/gone", params={"wait": 30}, timeout=httpx2.Timeout(30, read=0.5))
    close_round(busy)
    give_up_at = time.monotonic() + 20
    while server.http.get("/status/1").json()["state"] != "CLOSED":
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    time.sleep(0.5)  # time enough to be given a task, had it been still there
    assert server.http.get("/status/2").json()["assigned_clients"] == []


def test_a_heartbeat_extends_the_lease(serve_job: Serve) -> None:
    served = serve_job(heartbeat_seconds=5)
    member = served.join("client-1")
    task = member.task()
    time.sleep(0.05)
    beat = member.http.post(f"/tasks/{task['task_id']}/heartbeat", json={"progress": 0.5}).json()
    assert (beat["action"], beat["reason"], beat["code"]) == ("continue", None, None)
    assert beat["seconds_left"] <= 15 < task["soft_seconds_left"] <= task["hard_seconds_left"] <= 600
    assert beat["deadline"] > task["deadline"]


def test_a_heartbeat_of_useless_work_is_told_to_abort(server: Served) -> None:
    slow = server.join("slow")
    useless = slow.task()
    for name in ("client-1", "client-2"):
        member = server.join(name)
        task = member.task()
        assert member.put(task, update_body(task)).status_code == 201
    beat = slow.http.post(f"/tasks/{useless['task_id']}/heartbeat", json={}).json()
    assert (beat["action"], beat["seconds_left"], beat["code"]) == ("abort", 0.0, "round_closed")
    assert beat["reason"] == "round 1 has its updates"


def test_a_released_task_is_free_for_others_and_may_be_released_again(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    path = f"/tasks/{task['task_id']}"
    assert [member.http.delete(path).status_code for _ in range(2)] == [200, 200]
    problem(member.put(task, update_body(task)), 410, "lease_expired")
    assert member.task()["task_id"] != task["task_id"]


def test_somebody_elses_task_does_not_exist(server: Served) -> None:
    owner, other = server.join("owner"), server.join("other")
    task = owner.task()
    path = f"/tasks/{task['task_id']}"
    problem(other.http.delete(path), 404, "task_not_found")
    problem(other.http.post(f"{path}/heartbeat", json={}), 404, "task_not_found")
    problem(other.put(task, update_body(task)), 404, "task_not_found")
    assert other.http.head(f"{path}/update").status_code == 404


def test_an_evaluation_is_recorded_once_and_shown_with_its_version(server: Served) -> None:
    members = [server.join(f"client-{number}") for number in (1, 2)]
    for member in members:
        task = member.task()
        assert member.put(task, update_body(task)).status_code == 201
    give_up_at = time.monotonic() + 20
    while server.http.get("/aggregate/1").status_code != 200:
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    task = members[0].task()
    assert task["task"] == "evaluate"
    path, measured = f"/tasks/{task['task_id']}/evaluation", {"num_samples": 10, "loss": 0.5, "accuracy": 0.75}
    assert members[0].http.post(path, json=measured).status_code == 200
    assert members[0].http.post(path, json={**measured, "accuracy": 0.1}).status_code == 200
    version = server.http.get("/jobs/default").json()["versions"][-1]
    assert (version["version"], version["parent"], version["accuracy"]) == ("v2", "v1", 0.75)


def test_the_operator_creates_jobs_once(server: Served) -> None:
    operator = {"Authorization": f"Bearer {server.operator_key}"}
    toml = 'name = "second"\n' + SMALL_JOB
    given = {**operator, "Content-Type": "application/toml"}
    answers = [server.http.post("/jobs", content=toml, headers=given) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    changed = server.http.post("/jobs", json={"job": {"name": "second", "seed": 7}}, headers=operator)
    problem(changed, 409, "job_exists")
    assert [job["name"] for job in server.http.get("/jobs").json()["jobs"]] == ["default", "second"]
    assert server.join("client-1").get_task(job="second").json()["job"] == "second"


def test_a_plug_in_model_brings_its_parameters_and_first_version(server: Served) -> None:
    operator = {"Authorization": f"Bearer {server.operator_key}"}
    job = {"name": "plugged", "model": {"name": "my_model"}}
    parameters = [{"name": "weight", "shape": [2, 2], "initial": "ones"}]
    answer = server.http.post("/jobs", json={"job": job, "parameters": parameters}, headers=operator)
    assert answer.status_code == 201, answer.text
    model = server.http.get("/model/v1", params={"job": "plugged"})
    assert model.json()["weights"] == {"weight": [[1.0, 1.0], [1.0, 1.0]]}


def test_events_are_replayed_from_a_number_and_followed_live(server: Served) -> None:
    with server.http.stream("GET", "/events", params={"after": 0}) as feed:
        lines = feed.iter_lines()
        kinds = []
        for line in lines:
            kinds += [line.removeprefix("event: ")] if line.startswith("event: ") else []
            if kinds and kinds[-1] == "round_opened":
                break
        server.join("newcomer")
        for line in lines:
            if line.startswith("data: ") and "client_registered" in line:
                break
    told = json.loads(line.removeprefix("data: "))
    assert "operator_key_issued" not in kinds
    assert (told["client_id"], told["kind"]) == ("newcomer", "client_registered")
    assert "task_id" not in told


def test_metrics_are_told_to_prometheus_as_text(shared: Served) -> None:
    for accept in ("text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"):
        answer = shared.http.get("/metrics", headers={"Accept": accept})
        assert answer.headers["content-type"].startswith(accept.partition(";")[0])
        assert 'fed_compute_updates_total{job_name="default",outcome="accepted"} 0.0' in answer.text
        assert "fed_compute_update_latency_seconds_sum" in answer.text


def test_the_documentation_names_every_call_and_its_problems(shared: Served) -> None:
    document = shared.http.get("/openapi.json").json()
    assert {"/client/register", "/update", "/tasks/{task_id}/update", "/aggregate/{round_id}"} <= document[
        "paths"
    ].keys()
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            assert call["summary"], f"{method} {path}"
            assert "application/problem+json" in call["responses"]["422"]["content"], f"{method} {path}"
    assert json.dumps(document).count("#/$defs/") == 0
    assert shared.http.get("/docs").status_code == shared.http.get("/redoc").status_code == 200
