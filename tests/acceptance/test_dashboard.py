"""The pages for people: what they show, to whom, and what a form must bring before it acts."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from fed_compute.rounds.records import ClientState, TaskKind
from tests.acceptance.browser import Browser
from tests.acceptance.conftest import SMALL_JOB, Serve, Served, update_body

PUBLIC = (
    "/",
    "/ui/jobs",
    "/ui/compare",
    "/ui/clients",
    "/ui/leaderboard",
    "/ui/events",
    "/ui/health",
    "/ui/join",
    "/ui/me",
    "/ui/login",
)
FOR_OPERATORS = ("/ui/new-job",)


@pytest.fixture(scope="module")
def served(serve_job: Serve) -> Served:
    served = serve_job()
    members = [served.join(name) for name in ("lab-1", "lab-2")]
    task = members[0].task()
    assert members[0].put(task, update_body(task)).status_code == 201
    assert members[1].put(members[1].task(), b"no update").status_code == 422
    return served


@pytest.fixture
def browser(served: Served) -> Iterator[Browser]:
    browser = Browser(served)
    yield browser
    browser.http.close()


@pytest.fixture
def operator(served: Served, browser: Browser) -> Browser:
    assert browser.log_in(served.operator_key).status_code == 303
    return browser


@pytest.mark.parametrize("path", [*PUBLIC, "/ui/jobs/default", "/ui/rounds/1", "/ui/clients/lab-1"])
def test_a_page_comes_with_a_strict_policy_and_without_anything_from_elsewhere(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'")
    text = answer.text
    assert re.findall(r"<script(?![^>]*\bsrc=)|\son\w+=|style=|javascript:", text) == []
    assert re.findall(r'(?:src|href|action)="(?:https?:)?//[^"]*"', text) == []


def test_each_file_that_a_page_names_is_there_and_may_be_kept(browser: Browser) -> None:
    names = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', browser.get("/ui/jobs/default").text))
    assert len(names) >= 4
    for name in names:
        answer = browser.get(name)
        assert answer.status_code == 200, name
        assert "immutable" in answer.headers["cache-control"]


def test_programs_still_get_json_at_the_root(served: Served) -> None:
    for accept in ("*/*", "application/json", "text/html;q=0.1, application/json"):
        answer = served.http.get("/", headers={"Accept": accept})
        assert answer.json()["status"] == "running"
        assert "Accept" in answer.headers["vary"]


def test_pages_show_no_secret_and_no_act_to_strangers(served: Served, browser: Browser) -> None:
    with served.coordinator.store.snapshot() as records:
        tasks = [task.task_id for task in records.tasks.of_round(1, TaskKind.TRAIN)]
    assert len(tasks) == 2
    for path in (*PUBLIC[:-1], "/ui/jobs/default", "/ui/rounds/1", "/ui/clients/lab-1"):
        text = browser.get(path).text
        assert "key_issued" not in text
        assert 'method="post"' not in text, path
        assert not [task for task in tasks if task in text]


@pytest.mark.parametrize("path", FOR_OPERATORS)
def test_pages_of_operators_ask_others_to_log_in(browser: Browser, path: str) -> None:
    assert browser.get(path).status_code == 401


def test_a_session_begins_with_a_key_and_ends_with_a_click(served: Served, browser: Browser) -> None:
    wrong = browser.log_in("sk_nobody")
    assert wrong.status_code == 401
    assert "opens nothing here" in wrong.text
    right = browser.log_in(served.operator_key)
    cookie = right.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Max-Age=43200"))
    assert served.operator_key not in cookie
    assert browser.get("/ui/new-job").status_code == 200
    assert browser.send("/ui/logout", fields={"form_secret": browser.secret()}).status_code == 303
    assert browser.get("/ui/new-job").status_code == 401


def test_a_form_without_the_sessions_secret_does_nothing(served: Served, operator: Browser) -> None:
    for fields in ({"form_secret": ""}, {"form_secret": "0" * 64}):
        assert operator.send("/ui/clients/lab-2/ban", fields=fields).status_code == 401
    assert served.coordinator.clients.view("lab-2").client.state is ClientState.ACTIVE


def test_a_login_that_another_site_sends_opens_nothing(served: Served, browser: Browser) -> None:
    answer = browser.send("/ui/login", fields={"key": served.operator_key}, origin="https://elsewhere.example")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_an_operator_shuts_a_client_out_and_lets_it_in(served: Served, operator: Browser) -> None:
    act: dict[str, Any] = {"form_secret": operator.secret(), "reason": "sends noise"}
    assert operator.send("/ui/clients/lab-2/ban", fields=act).headers["location"] == "/ui/clients/lab-2?did=banned"
    assert served.coordinator.clients.view("lab-2").client.state is ClientState.BANNED
    assert operator.send("/ui/clients/lab-2/unban", fields=act).status_code == 303
    assert served.coordinator.clients.view("lab-2").client.state is ClientState.ACTIVE
    assert operator.send("/ui/clients/nobody/ban", fields=act).status_code == 404


def test_a_job_is_checked_and_created_from_a_form(served: Served, operator: Browser) -> None:
    fields = {
        "form_secret": operator.secret(),
        "job": 'name = "x"\n[model]\nname = "simple_mlp"\n[rounds]\ntotal = 0\n',
    }
    assert "total" in operator.send("/ui/new-job/check", fields=fields).text
    assert operator.send("/ui/new-job", fields=fields).status_code == 422
    fields["job"] = 'name = "by-form"\n' + SMALL_JOB
    assert "can be created" in operator.send("/ui/new-job/check", fields=fields).text
    assert operator.send("/ui/new-job", fields=fields).headers["location"] == "/ui/jobs/by-form?did=created"
    assert operator.get("/ui/jobs/by-form?did=created").status_code == 200


def test_a_clients_key_opens_its_own_page_and_no_operators(served: Served, browser: Browser) -> None:
    member = served.join("lab-3")
    assert browser.log_in(member.key).status_code == 303
    assert "lab-3" in browser.get("/ui/me").text
    assert browser.get("/ui/new-job").status_code == 403
    secret = browser.secret()
    assert browser.send("/ui/clients/lab-1/ban", fields={"form_secret": secret}).status_code == 403


def test_what_is_not_there_is_said_as_a_page(browser: Browser) -> None:
    for path in ("/ui/jobs/none", "/ui/rounds/99", "/ui/clients/none", "/ui/nothing"):
        answer = browser.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"].startswith("text/html"), path
