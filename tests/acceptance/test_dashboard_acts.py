"""What operators do on pages, over real HTTP: each act is a form, and a plain one works without any script."""

import re
from collections.abc import Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from fed_compute.rounds.records import JobState
from fed_compute.server.app import DASHBOARD
from fed_compute.server.dashboard.visitors import form_of, operator_of
from tests.acceptance.browser import Browser
from tests.acceptance.conftest import SMALL_JOB, Serve, Served, update_body

POSTS = (
    "/ui/jobs/default/pause",
    "/ui/jobs/default/resume",
    "/ui/jobs/default/stop",
    "/ui/rounds/1/close",
    "/ui/clients/anna/ban",
    "/ui/clients/anna/rotate",
    "/ui/invites",
    "/ui/invites/abcdefghij/revoke",
    "/ui/new-job",
    "/ui/new-job/check",
)
FILE = 'name = "by-file"  # ours\n' + SMALL_JOB


@pytest.fixture(scope="module")
def served(serve_job: Serve) -> Served:
    served = serve_job(failed_authentications_per_minute=1_000)
    served.join("anna")
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


def state_of(served: Served, name: str) -> JobState:
    return served.coordinator.jobs.named(name).state


def field(text: str, name: str) -> str:
    """Return what an input of a page holds."""
    found = re.search(rf'name="{re.escape(name)}" value="([^"]*)"', text)
    assert found is not None, name
    return found[1]


def file_of(text: str) -> str:
    """Return the job file of a page."""
    found = re.search(r"<textarea[^>]*>(.*?)</textarea>", text, re.DOTALL)
    assert found is not None
    return found[1].replace("&#34;", '"')


@pytest.mark.parametrize("path", POSTS)
def test_no_act_is_done_without_a_login_or_without_the_secret_of_the_form(
    served: Served, browser: Browser, path: str
) -> None:
    member, key = served.join(f"client-{POSTS.index(path)}"), served.operator_key
    before = served.records_digest()
    assert browser.send(path, fields={"form_secret": "0" * 64}).status_code == 401, "nobody is logged in"
    browser.log_in(key)
    for fields in ({"reason": "none"}, {"form_secret": ""}, {"form_secret": "0" * 64}):
        assert browser.send(path, fields=fields).status_code == 401, "the form is not from a page of this session"
    browser.http.cookies.clear()
    browser.log_in(member.key)
    assert browser.act(path).status_code == 403, "a client is no operator"
    assert served.records_digest() == before


def test_whatever_can_be_sent_needs_the_secret_of_its_form_and_an_operator() -> None:
    """Also what is added later. Logging in has no session yet, and checks that it comes from our own page instead."""

    def conditions(of: Dependant) -> set[object]:
        return {of.call}.union(*(conditions(one) for one in of.dependencies))

    sent = {
        route.path: conditions(route.dependant)
        for module in DASHBOARD
        for route in module.router.routes
        if isinstance(route, APIRoute) and route.methods - {"GET", "HEAD"}
    }
    assert len(sent) >= 9
    assert [path for path, needs in sent.items() if form_of not in needs] == ["/ui/login"]
    assert sorted(path for path, needs in sent.items() if operator_of not in needs) == ["/ui/login", "/ui/logout"]


def test_a_form_that_is_none_of_ours_is_refused_and_breaks_nothing(operator: Browser) -> None:
    many = {f"field-{number}": "" for number in range(101)}
    assert operator.act("/ui/invites", **many).status_code == 422
    assert operator.act("/ui/new-job", job="x" * (300 << 10)).status_code == 413
    headers = {"Content-Type": "application/json"}
    assert operator.http.post("/ui/invites", content=b"{}", headers=headers).status_code == 415
    assert operator.act("/ui/clients/anna/ban", reason="r" * 201).status_code == 422


def test_a_job_is_paused_resumed_and_stopped_and_its_page_offers_what_can_be_done(
    served: Served, operator: Browser
) -> None:
    assert operator.act("/ui/new-job", job='name = "steered"\n' + SMALL_JOB).status_code == 303
    page = "/ui/jobs/steered"
    assert f'action="{page}/resume"' not in operator.get(page).text
    assert operator.act(f"{page}/pause").headers["location"] == f"{page}?did=paused"
    assert state_of(served, "steered") is JobState.PAUSED
    paused = operator.get(f"{page}?did=paused").text
    assert "The job is paused" in paused
    assert f'action="{page}/pause"' not in paused
    assert operator.act(f"{page}/resume").status_code == 303
    assert state_of(served, "steered") is JobState.RUNNING
    assert operator.act(f"{page}/stop").status_code == 303
    assert state_of(served, "steered") is JobState.STOPPED
    stopped = operator.get(page).text
    assert not re.findall(rf'action="{page}/\w+"', stopped)
    refused = operator.act(f"{page}/resume")
    assert (refused.status_code, "Not done" in refused.text, f'href="{page}"' in refused.text) == (409, True, True)
    assert operator.act(f"{page}/explode").status_code == 404
    assert operator.act("/ui/jobs/none/pause").status_code == 404


def test_every_act_on_a_page_asks_twice(served: Served, operator: Browser) -> None:
    """A click beside the mark must not stop a job: the button lies in a part that is opened first."""
    for path in ("/ui/jobs/default", "/ui/clients/anna"):
        text = operator.get(path).text
        inside = re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
        outside = re.findall(r'<form[^>]*method="post"[^>]*action="([^"]+)"', inside)
        assert outside == ["/ui/logout"], path


def test_a_round_is_closed_early_and_not_before_its_minimum(served: Served, operator: Browser) -> None:
    assert operator.act("/ui/new-job", job='name = "early"\n' + SMALL_JOB).status_code == 303
    with served.coordinator.store.snapshot() as records:
        round_id = records.rounds.live(served.coordinator.jobs.named("early").job_id).round_id
    too_early = operator.act(f"/ui/rounds/{round_id}/close")
    assert (too_early.status_code, f'href="/ui/rounds/{round_id}"' in too_early.text) == (409, True)
    member = served.join("early-bird")
    task = member.get_task(job="early").json()
    assert task["round_id"] == round_id
    assert member.put(task, update_body(task)).status_code == 201
    assert f'action="/ui/rounds/{round_id}/close"' in operator.get("/ui/jobs/early").text
    assert operator.act(f"/ui/rounds/{round_id}/close").headers["location"] == f"/ui/rounds/{round_id}?did=closed"


def test_a_new_key_of_a_client_is_shown_once_and_the_old_one_ends_when_told_to(
    served: Served, operator: Browser
) -> None:
    member = served.join("forgetful")
    answer = operator.act("/ui/clients/forgetful/rotate", at_once="yes")
    found = re.search(r"<pre><code>(sk_\w+)</code></pre>", answer.text)
    assert found is not None
    assert answer.headers["cache-control"] == "no-store"
    assert member.get_task().status_code == 401
    assert found[1] not in operator.get("/ui/clients/forgetful").text
    operator.http.cookies.clear()
    assert operator.log_in(found[1]).status_code == 303
    operator.log_in(served.operator_key)
    assert operator.act("/ui/clients/nobody/rotate").status_code == 404


def test_a_client_is_shut_out_with_all_whom_it_has_invited(served: Served, operator: Browser) -> None:
    made = served.http.post(
        "/admin/invites", json={"inviter": "anna"}, headers={"Authorization": f"Bearer {served.operator_key}"}
    ).json()
    registered = served.http.post("/client/register", json={"client_name": "annas-friend", "invite": made["invite"]})
    assert registered.status_code == 200
    assert "Also all who came by its invitations" in operator.get("/ui/clients/anna").text
    assert operator.act("/ui/clients/anna/ban", reason="", with_invited="yes").status_code == 303
    for name in ("anna", "annas-friend"):
        assert served.coordinator.clients.view(name).client.state == "banned"
        assert operator.act(f"/ui/clients/{name}/unban").status_code == 303


def test_an_operator_makes_an_invitation_and_the_line_with_it_lets_somebody_in(
    served: Served, operator: Browser
) -> None:
    answer = operator.act("/ui/invites", label="the lab", uses="2", days="3", rounds_per_day="")
    line = re.search(r"fed-compute join (\S+) --invite (\S+) --data", answer.text)
    assert line is not None
    assert line[1] == served.url
    assert served.http.post("/client/register", json={"client_name": "lab", "invite": line[2]}).status_code == 200
    page = operator.get("/ui/join").text
    assert line[2] not in page, "shown once"
    assert "the lab" in page
    assert "1 / 2" in page
    (invite_id,) = re.findall(r'action="/ui/invites/(\w+)/revoke"', page)
    assert operator.act(f"/ui/invites/{invite_id}/revoke").headers["location"] == "/ui/join?did=revoked"
    late = served.http.post("/client/register", json={"client_name": "late", "invite": line[2]})
    assert late.status_code == 403


@pytest.mark.parametrize(
    ("name", "value"), [("uses", "0"), ("uses", "many"), ("days", "366"), ("rounds_per_day", "-1")]
)
def test_an_invitation_that_cannot_be_is_refused_with_the_field_and_the_form_again(
    operator: Browser, name: str, value: str
) -> None:
    answer = operator.act("/ui/invites", **{name: value})
    assert answer.status_code == 422
    assert f"{name} is" in answer.text
    assert 'action="/ui/invites"' in answer.text


def test_strangers_see_how_to_join_and_no_invitation(served: Served, browser: Browser) -> None:
    text = browser.get("/ui/join").text
    assert f"fed-compute join {served.url} --data digits" in text
    assert "Invitations" not in text
    assert "/ui/invites" not in text


def test_a_field_writes_the_file_and_the_file_fills_the_fields(operator: Browser) -> None:
    """The same requests that a page sends while somebody types, and its Check button without a script."""
    page = operator.get("/ui/new-job").text
    base = file_of(page)
    changed = operator.act("/ui/new-job/check", job=base, base=base, **{"field.training.lr": "0.25"}).text
    assert "lr = 0.25" in file_of(changed)
    assert "# bears a fifth of liars" in file_of(changed)
    read = operator.act("/ui/new-job/check", job=FILE, base=base).text
    assert field(read, "field.name") == "by-file"
    assert "can be created" in read
    assert "by-file" in field(read, "base")


def test_what_is_wrong_with_a_job_is_said_and_nothing_typed_is_lost(served: Served, operator: Browser) -> None:
    base = file_of(operator.get("/ui/new-job").text)
    broken = 'name = "half'
    answer = operator.act("/ui/new-job/check", job=broken, base=base, **{"field.name": "typed"})
    assert answer.status_code == 200
    assert file_of(answer.text) == broken
    assert field(answer.text, "field.name") == "typed"
    assert "not TOML" in answer.text or "cannot be written" in answer.text
    taken = operator.act("/ui/new-job/check", job='name = "default"\n' + SMALL_JOB, base=base)
    assert "There is a job" in taken.text
    unknown = operator.act("/ui/new-job/check", job=FILE + "[trainig]\n", base=base)
    assert "did you mean" in unknown.text
    assert operator.act("/ui/new-job", job=FILE + "[trainig]\n", base=base).status_code == 422


def test_a_job_is_created_from_fields_that_nobody_wrote_into_the_file_first(served: Served, operator: Browser) -> None:
    """Without a script nothing writes a changed field into the file, so creating the job must."""
    base = FILE
    sent = operator.act("/ui/new-job", job=base, base=base, **{"field.name": "by-field", "field.rounds.total": "3"})
    assert sent.headers["location"] == "/ui/jobs/by-field?did=created"
    assert "0 / 3" in operator.get("/ui/jobs/by-field").text
    assert served.http.get("/jobs/by-file").status_code == 404
