"""What each page of the dashboard tells, over real HTTP, after a job has closed rounds and refused updates."""

import html
import json
import math
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fed_compute.protocol.job import parse_job_text
from fed_compute.server.dashboard import live
from tests.acceptance.browser import Browser
from tests.acceptance.conftest import SMALL_JOB, Serve, Served, update_body

COMPARE_ALL = "/ui/compare?job=default&job=other&job=third&job=other"
OTHER_JOB = 'name = "other"\n' + SMALL_JOB + "[training]\nlr = 0.5\n"


def wait_until_measured(served: Served, round_id: int) -> None:
    """Wait until a round is closed and what each client contributed is on record; a duty does it at once."""
    for _ in range(1_000):
        with served.coordinator.store.snapshot() as records:
            if records.round_contributions.get(round_id) is not None:
                return
        time.sleep(0.01)
    pytest.fail(f"round {round_id} was not measured")


@pytest.fixture(scope="module")
def served(serve_job: Serve) -> Served:
    """Return a server on which round 1 of `default` closed with two updates, one of them refused at first."""
    served = serve_job()
    anna, bob = served.join("anna"), served.join("bob")
    tasks = [member.task() for member in (anna, bob)]
    assert bob.put(tasks[1], update_body(tasks[1], value=math.nan)).status_code == 422
    for member, task, value in zip((anna, bob), tasks, (0.5, 0.25), strict=True):
        assert member.put(task, update_body(task, value=value)).status_code == 201
    wait_until_measured(served, 1)
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


def test_a_round_is_a_time_line_of_each_client_in_words_too(browser: Browser) -> None:
    text = browser.get("/ui/rounds/1").text
    told = re.findall(r'<span class="told">(.*?)</span>', text)
    assert len(told) == 2
    assert all(re.match(r"assigned \S+ s, .*reported \S+ s$", one) for one in told)
    assert sum("refused" in one and "update_not_finite" in one for one in told) == 1
    assert text.count('<rect class="span reported"') == 2
    assert text.count('class="mark refused"') == 1 + 1  # the legend has one of each


def test_a_round_shows_what_each_update_weighed_and_how_far_it_agreed(browser: Browser) -> None:
    rows = re.findall(r'<td class="number">([^<]*)</td>', browser.get("/ui/rounds/1").text)
    assert rows.count("50.0%") == 2, "both have as many samples"
    assert "1" in rows, "the cosine of two updates that point the same way"


def test_a_round_of_a_hundred_clients_and_more_is_shown_in_pages(browser: Browser) -> None:
    text = browser.get("/ui/rounds/1?offset=100").text
    assert "No more leases." in text
    assert browser.get("/ui/rounds/1?offset=-1").status_code == 422


def test_a_job_lists_its_versions_with_digests_and_each_can_be_downloaded(served: Served, browser: Browser) -> None:
    text = browser.get("/ui/jobs/default").text
    assert 'href="/ui/jobs/default/model/v1"' in text
    with served.coordinator.store.snapshot() as records:
        version = records.versions.get(1, 2)
    assert version.digest in text
    file = browser.get("/ui/jobs/default/model/v2")
    assert file.headers["content-disposition"] == 'attachment; filename="default-v2.safetensors"'
    assert file.content == served.coordinator.models.get(version.digest)
    part = browser.http.get("/ui/jobs/default/model/v2", headers={"Range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, file.content[:8])
    assert browser.get("/ui/jobs/default/model/v99").status_code == 404


def test_rounds_and_versions_go_back_page_by_page(browser: Browser) -> None:
    newest = browser.get("/ui/jobs/default").text
    assert re.findall(r'href="/ui/rounds/(\d+)">\d+</a></td><td><span class="state', newest) == ["2", "1"]
    older = browser.get("/ui/jobs/default?before=2").text
    assert re.findall(r'href="/ui/rounds/(\d+)">\d+</a></td><td><span class="state', older) == ["1"]
    assert 'hx-select-oob=""' in older, "a page of the past is not replaced by the present"
    assert "the job's seed" in browser.get("/ui/jobs/default?versions_before=2").text.replace("&#39;", "'")


def test_the_recipe_on_a_page_is_a_job_file_that_says_the_same(browser: Browser) -> None:
    recipe = re.search(r"<pre><code>(.*?)</code></pre>", browser.get("/ui/jobs/default").text, re.DOTALL)
    assert recipe is not None
    assert parse_job_text(html.unescape(recipe[1])) == parse_job_text(SMALL_JOB)


def test_jobs_are_compared_by_their_curves_and_by_what_differs(served: Served, operator: Browser) -> None:
    assert operator.act("/ui/new-job", job=OTHER_JOB).status_code == 303
    text = operator.get("/ui/compare?job=default&job=other").text
    assert 'data-source="/ui/data/jobs/default /ui/data/jobs/other"' in text
    assert re.findall(r"<td><code>([a-z_.]+)</code></td>", text) == ["training.lr"]
    assert "Choose two jobs" in operator.get("/ui/compare?job=default&job=").text
    assert operator.get("/ui/compare?job=default&job=none").status_code == 404
    assert operator.act("/ui/new-job", job=OTHER_JOB.replace("other", "third")).status_code == 303
    assert len(re.findall(r'data-source="(?:/ui/data/jobs/\w+ ?){3}"', operator.get(COMPARE_ALL).text)) == 4
    assert "/ui/compare" in operator.get("/ui/jobs").text


def test_charts_are_given_the_closed_rounds_only(browser: Browser) -> None:
    columns: dict[str, Any] = json.loads(browser.get("/ui/data/jobs/default").text)
    assert (columns["job"], columns["rounds"], columns["round"]) == ("default", 1, [1])
    assert columns["train_loss"] == [1.0]
    assert columns["num_updates"] == [2.0]


def test_a_volunteer_sees_what_left_its_machine_what_it_earned_and_what_was_refused_and_why(
    served: Served, browser: Browser
) -> None:
    member = served.join("carla")
    text = browser.get("/ui/me").text
    assert "carla" not in text
    assert 'href="/ui/login?next=/ui/me"' in text
    assert browser.log_in(member.key).headers["location"] == "/ui/me"
    assert "No update of yours has been accepted yet." in browser.get("/ui/me").text
    task = member.get_task(evaluate="false").json()
    assert member.put(task, update_body(task, value=math.nan)).status_code == 422
    assert member.put(task, update_body(task, value=0.75)).status_code == 201
    text = browser.get("/ui/me").text
    assert "update_not_finite" in text
    assert "The update holds NaN or an infinity." in text
    with served.coordinator.store.snapshot() as records:
        (sent,) = records.sent.by_job("carla")
        (update,) = records.sent.newest("carla", limit=5)
    assert (sent.num_updates, sent.num_bytes) == (1, update.size_bytes)
    assert update.digest in text
    assert f"{sent.num_bytes} B" in text
    assert "anna" not in text, "a page of one's own tells of nobody else"


def test_the_journal_is_filtered_by_kind_job_and_client(browser: Browser) -> None:
    def kinds(query: str) -> set[str]:
        return set(re.findall(r"UTC</td><td><code>([a-z_]+)</code>", browser.get(f"/ui/events?{query}").text))

    assert kinds("kind=round_closed&job=&client=") == {"round_closed"}
    assert kinds("client=bob&kind=&job=") >= {"update_refused", "update_accepted", "client_registered"}
    assert "client_registered" not in kinds("job=default")
    assert kinds("job=none") == set()
    assert kinds("kind=no_such_kind") == set()
    first = browser.get("/ui/events?before=2").text
    assert re.findall(r"UTC</td><td><code>([a-z_]+)</code>", first) == []


def test_health_tells_staff_more_than_strangers(served: Served, browser: Browser) -> None:
    for_all = browser.get("/ui/health").text
    assert "This coordinator is ready." in for_all
    assert "Readers of the journal" in for_all
    assert "Disk" not in for_all
    browser.log_in(served.operator_key)
    assert "Disk" in browser.get("/ui/health").text


def test_a_team_has_a_page(served: Served, browser: Browser) -> None:
    assert browser.get("/ui/teams/ducks").status_code == 404
    member = served.join("dora")
    assert member.http.post("/teams", json={"name": "ducks"}).status_code == 201
    text = browser.get("/ui/teams/ducks").text
    assert 'href="/ui/clients/dora"' in text
    assert "founded by dora" in text


def test_clients_are_listed_by_state_and_from_a_name_on(browser: Browser) -> None:
    def names(query: str) -> list[str]:
        return re.findall(r'href="/ui/clients/([a-z]+)">[a-z]+</a></td><td>', browser.get(f"/ui/clients{query}").text)

    assert names("")[:2] == ["anna", "bob"]
    assert "anna" not in names("?after=anna")
    assert names("?state=banned") == []
    assert browser.get("/ui/clients?state=odd").status_code == 422


@pytest.mark.parametrize(
    ("path", "way"),
    [
        ("/ui/jobs/none", "/ui/jobs"),
        ("/ui/jobs/default/model/v99", "/ui/jobs"),
        ("/ui/rounds/99", "/ui/jobs"),
        ("/ui/rounds/odd", "/ui/jobs"),
        ("/ui/clients/nobody", "/ui/clients"),
        ("/ui/teams/none", "/ui/leaderboard"),
        ("/ui/compare?job=none", "/ui/jobs"),
    ],
)
def test_a_wrong_address_leads_to_where_the_right_ones_are(browser: Browser, path: str, way: str) -> None:
    answer = browser.get(path)
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"].startswith("text/html")
    assert f'class="button" href="{way}"' in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/ui/events?client=%00",
        "/ui/events?kind=" + "x" * 65,
        "/ui/events?before=0",
        "/ui/clients?after=%00",
        "/ui/compare?job=%00",
        "/ui/compare?" + "&".join(["job=default"] * 21),
        "/ui/jobs/default?before=99999999999999999999",
        "/ui/jobs?offset=-1",
        "/ui/teams/%00",
        "/ui/leaderboard?window=year",
    ],
)
def test_what_no_page_can_mean_by_an_address_is_said_on_a_page(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/html")


def test_a_page_for_operators_leads_to_the_login_and_back(served: Served, browser: Browser) -> None:
    answer = browser.get("/ui/new-job")
    assert (answer.status_code, 'href="/ui/login?next=/ui/new-job"' in answer.text) == (401, True)
    sent = browser.send("/ui/login", fields={"key": served.operator_key, "next": "/ui/new-job"})
    assert sent.headers["location"] == "/ui/new-job"
    elsewhere = browser.send("/ui/login", fields={"key": served.operator_key, "next": "//elsewhere.example"})
    assert elsewhere.headers["location"] == "/"


def test_pages_hear_of_many_events_by_few_beats(
    served: Served, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page asks anew at each beat: were there one for each event, a busy round would ask a hundred times a second."""
    monkeypatch.setattr(live, "BEAT_SECONDS", 0.1)
    clock = served.coordinator.clock
    with browser.http.stream("GET", "/ui/live") as stream:
        beats = (line for line in stream.iter_lines() if line.startswith("data:"))
        assert next(beats) == "data: changed"
        began = clock.monotonic()
        for _ in range(4):
            for _ in range(25):
                with served.coordinator.store.transaction() as records:
                    records.journal.append("evaluation_recorded", at=0.0)
            assert next(beats) == "data: changed"
        assert clock.monotonic() - began >= 0.3, "four beats are at least three times 0.1 s apart"
