"""FedBuff over real HTTP: a slow client's update counts in a later round, for less, or is refused with its reason."""

import time
from typing import Any

import httpx2
import pytest

from fed_compute.cli.main import main
from tests.acceptance.conftest import Member, Serve, Served, problem, update_body

BUFFERED_JOB = """
[model]
name = "linear"
args = { input_dim = 3, output_dim = 2 }
[rounds]
mode = "fedbuff"
target_updates = 2
concurrency = 4
max_staleness = 1
deadline_seconds = 600
[evaluation]
every_rounds = 0
"""


@pytest.fixture(scope="module")
def buffered(serve_job: Serve) -> Served:
    """A server with the buffered job; its records are verified when the tests are over."""
    return serve_job(BUFFERED_JOB)


def settled(member: Member, task: dict[str, Any], body: bytes) -> httpx2.Response:
    """Send an update as a client does: again and again while the last buffer is being folded."""
    give_up_at = time.monotonic() + 20
    while (answer := member.put(task, body)).status_code == 503:
        assert problem(answer, 503, "buffer_busy")["retry_after_seconds"] == 1
        assert answer.headers["retry-after"] == "1"
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    return answer


def asked(member: Member) -> dict[str, Any]:
    """Ask for a task, waiting for one."""
    answer = member.get_task(wait=20)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def fill_a_buffer(*members: Member) -> None:
    """Let some clients take a task each and answer it."""
    tasks = [asked(member) for member in members]
    for member, task in zip(members, tasks, strict=True):
        assert settled(member, task, update_body(task)).status_code == 201


def test_a_slow_client_counts_in_a_later_round_until_it_is_too_far_behind(buffered: Served) -> None:
    anna, bob, slow, slower = (buffered.join(name) for name in ("anna", "bob", "slow", "slower"))
    tasks = {member.client_id: asked(member) for member in (slow, slower)}
    fill_a_buffer(anna, bob)

    counted = settled(slow, tasks["slow"], update_body(tasks["slow"]))
    assert (counted.status_code, counted.json()["round_id"], tasks["slow"]["round_id"]) == (201, 2, 1)
    assert settled(slow, tasks["slow"], update_body(tasks["slow"])).json()["repeated"]
    stats = buffered.http.get("/async/round/2/stats").json()
    assert (stats["mode"], stats["max_staleness"]) == ("fedbuff", 1)
    assert [(arrival["client_id"], arrival["staleness"]) for arrival in stats["arrivals"]] == [("slow", 1)]
    beat = slower.http.post(f"/tasks/{tasks['slower']['task_id']}/heartbeat", json={"progress": 0.5}).json()
    assert beat["action"] == "continue"

    fill_a_buffer(anna)  # the second one of round 2
    assert asked(bob)["model_version"] == "v3"
    beat = slower.http.post(f"/tasks/{tasks['slower']['task_id']}/heartbeat", json={"progress": 0.9}).json()
    assert beat["action"] == "abort"
    refused = problem(slower.put(tasks["slower"], update_body(tasks["slower"])), 410, "update_too_stale")
    assert (refused["base_version"], refused["version"], refused["max_staleness"]) == ("v1", "v3", 1)
    late = buffered.http.get("/async/round/1/stats").json()["stragglers"]
    assert [arrival["client_id"] for arrival in late] == ["slower"]


def test_a_client_of_the_first_api_counts_in_a_later_round_too(serve_job: Serve) -> None:
    served = serve_job(BUFFERED_JOB)
    old = served.join("old", modern=False)
    task = asked(old)
    fill_a_buffer(served.join("anna"), served.join("bob"))
    delta = [[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], [0.7, 0.8]]
    update = {"client_id": "old", "round_id": task["round_id"], "weight_delta": delta}
    give_up_at = time.monotonic() + 20
    while (answer := old.http.post("/update", json=update)).status_code == 503:
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    assert (answer.status_code, answer.json()["round_id"]) == (200, 2)


def test_a_job_tells_the_mode_on_record_and_the_one_that_this_coordinator_serves(
    serve_job: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting changes how rounds close; whoever reads the job must not be told otherwise."""
    changed = serve_job(enable_async_rounds=True)
    (job,) = changed.http.get("/jobs").json()["jobs"]
    assert (job["mode"], job["mode_in_force"]) == ("sync", "async")
    assert changed.http.get("/async/round/1/stats").json()["mode"] == "async"
    assert main(["job", "show", "default", "--url", changed.url]) == 0
    assert "async by ENABLE_ASYNC_ROUNDS; on record sync" in capsys.readouterr().out


def test_a_job_of_buffers_is_served_as_it_is_on_record(buffered: Served) -> None:
    (job,) = buffered.http.get("/jobs").json()["jobs"]
    assert (job["mode"], job["mode_in_force"]) == ("fedbuff", "fedbuff")
