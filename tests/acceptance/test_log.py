"""The server's log over real HTTP: what happened to one update can be followed by its ids."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fed_compute.client.api import CoordinatorApi
from fed_compute.client.observer import LogObserver
from fed_compute.protocol.messages import RegisterRequest
from tests.acceptance.conftest import SMALL_JOB, TLS, Serve, Served, problem, update_body

Line = dict[str, Any]
Find = Callable[..., Line]
OF_A_TASK = ("client_id", "task_id", "job", "round_id")


@pytest.fixture
def find(server_log: Path) -> Find:
    """Return how to wait for the one line that says what is given."""

    def found(**wanted: object) -> Line:
        for _ in range(500):
            lines = [json.loads(text) for text in server_log.read_text().splitlines() if text.endswith("}")]
            if fitting := [line for line in lines if wanted.items() <= line.items()]:
                assert len(fitting) == 1, fitting
                return fitting[0]
            time.sleep(0.02)
        raise AssertionError(f"no line with {wanted}")

    return found


def of(line: Line, keys: tuple[str, ...]) -> list[Any]:
    return [line.get(key) for key in keys]


@pytest.fixture(scope="module")
def served(serve_job: Serve) -> Served:
    """A server whose job has a name of its own: all servers of these tests share one log."""
    return serve_job(f'name = "followed"\n{SMALL_JOB}')


def test_one_update_can_be_followed_from_its_request_to_the_new_version(served: Served, find: Find) -> None:
    """An operator who is asked what became of an update has one id, and finds the rest by it."""
    ann, ben = served.join("log-ann"), served.join("log-ben")
    task, other = ann.task(), ben.task()
    answer = ann.put(task, update_body(task))
    assert ben.put(other, update_body(other)).status_code == 201

    request = find(event="request", request_id=answer.headers["x-request-id"])
    assert of(request, OF_A_TASK) == ["log-ann", task["task_id"], "followed", task["round_id"]]
    assert of(request, ("status", "code")) == [201, None]
    accepted = find(event="update_accepted", request_id=request["request_id"])
    assert of(accepted, OF_A_TASK) == of(request, OF_A_TASK)
    assert accepted["update_id"] == answer.json()["update_id"]
    leased = find(event="task_assigned", task_id=task["task_id"])
    assert of(find(event="request", request_id=leased["request_id"]), OF_A_TASK) == of(request, OF_A_TASK)
    for kind in ("round_aggregated", "version_published", "round_closed"):
        made = find(event=kind, job="followed", round_id=task["round_id"])
        assert of(made, ("duty", "request_id")) == ["versions", None], "no request waits for it"
        assert made["seq"] > accepted["seq"]


def test_a_refusal_tells_its_code_and_whom_it_met(served: Served, find: Find) -> None:
    member = served.join("log-cat")
    task = member.get_task(evaluate=False).json()
    refused = member.put(task, b"no update at all" * 10)
    code = refused.json()["code"]
    request = find(event="request", request_id=refused.headers["x-request-id"])
    assert of(request, OF_A_TASK) == ["log-cat", task["task_id"], "followed", task["round_id"]]
    assert of(request, ("status", "code")) == [refused.status_code, code]
    assert code.startswith("update_")
    assert find(event="update_refused", request_id=request["request_id"])["code"] == code


@pytest.mark.parametrize(
    ("path", "code", "facts"),
    [
        ("/nowhere", "not_found", {}),
        ("/status/999", "round_not_found", {"round_id": 999}),
        ("/status/none", "invalid_request", {}),
        ("/jobs/nothing", "job_not_found", {"job": "nothing"}),
        ("/task/log-dan", "authentication_failed", {}),
    ],
)
def test_every_kind_of_refusal_is_told(served: Served, find: Find, path: str, code: str, facts: Line) -> None:
    """Whoever has no valid key is not called by the name that it claims."""
    answer = served.http.get(path)
    line = find(event="request", request_id=answer.headers["x-request-id"])
    assert line["code"] == code == answer.json()["code"]
    assert {key: line[key] for key in (*OF_A_TASK, "key_id") if key in line} == facts


def test_what_a_limit_refuses_is_told_too(serve_job: Serve, find: Find) -> None:
    tight = serve_job(network_requests_per_minute=1)
    answers = [tight.http.get("/jobs") for _ in range(3)]
    problem(answers[-1], 429, "rate_limited")
    assert find(event="request", request_id=answers[-1].headers["x-request-id"])["code"] == "rate_limited"


def test_an_operator_is_told_by_the_id_of_its_key(served: Served, find: Find) -> None:
    headers = {"Authorization": f"Bearer {served.operator_key}"}
    answer = served.http.get("/admin/keys", headers=headers)
    line = find(event="request", request_id=answer.headers["x-request-id"])
    assert line["key_id"] == served.operator_key.split("_")[1]


@pytest.mark.parametrize(
    ("sent", "is_taken"),
    [
        ("f3b1c2d4-8e1f-4c0a-9a51-0f6de2a4b111", True),
        ("short", False),
        ("spaces are not for ids", False),
        ("x" * 129, False),
        ("sk_0123456789_" + "a" * 49, False),
    ],
)
def test_a_trusted_proxy_may_name_a_request_if_the_name_is_well_formed(
    serve_job: Serve, sent: str, is_taken: bool
) -> None:
    behind = serve_job(trusted_proxies="127.0.0.1")
    answer = behind.http.get("/healthz", headers={"X-Request-ID": sent})
    assert (answer.headers.get_list("x-request-id") == [sent]) is is_taken
    assert len(answer.headers.get_list("x-request-id")) == 1


def test_a_stranger_does_not_name_its_requests(served: Served) -> None:
    """Else it could hide among the lines of another."""
    answer = httpx2.get(f"{served.url}/healthz", headers={"X-Request-ID": "0123456789abcdef"}, verify=TLS)
    assert answer.headers["x-request-id"] != "0123456789abcdef"


def test_the_clients_own_log_names_the_request_that_the_coordinator_logged(served: Served, find: Find) -> None:
    api, observer = CoordinatorApi(served.url), LogObserver()
    try:
        answer = api.register(RegisterRequest(client_name="log-eve", capabilities={}))
        observer.event("signed_in", client_id=answer.client_id)
        observer.event("resting", why="tired")
    finally:
        api.close()
    theirs = find(event="signed_in", client_id="log-eve")
    ours = find(event="client_registered", client_id="log-eve")
    assert theirs["request_id"] == ours["request_id"]
    assert "request_id" not in find(event="resting", client_id="log-eve"), "it tells of no answer"
