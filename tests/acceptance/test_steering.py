"""Pause, resume and stop over HTTP, as an operator and the clients of the job see it."""

import httpx2
import pytest

from tests.acceptance.conftest import Serve, Served, problem, update_body


def steer(served: Served, act: str, name: str = "default", key: str | None = None) -> httpx2.Response:
    bearer = {"Authorization": f"Bearer {key or served.operator_key}"}
    return served.http.post(f"/jobs/{name}/{act}", headers=bearer)


def test_a_paused_job_shows_it_gives_no_work_and_takes_what_is_in_progress(server: Served) -> None:
    anna, bob = server.join("anna"), server.join("bob")
    task = anna.task()
    paused = steer(server, "pause")
    assert (paused.status_code, paused.json()["state"]) == (200, "paused")
    assert server.http.get("/jobs/default").json()["state"] == "paused"
    assert server.http.get(f"/status/{task['round_id']}").json()["deadline"] is None
    nothing = bob.get_task()
    assert (nothing.status_code, nothing.headers["Fed-Compute-Reason"]) == (204, "job_paused")
    beat = anna.http.post(f"/tasks/{task['task_id']}/heartbeat", json={"progress": 0.5})
    assert beat.json()["action"] == "continue"
    assert anna.put(task, update_body(task)).status_code == 201
    assert steer(server, "resume").json()["state"] == "running"
    assert bob.get_task().status_code == 200


def test_a_stopped_job_calls_its_clients_off_and_its_models_stay(server: Served) -> None:
    anna = server.join("anna")
    task = anna.task()
    assert steer(server, "stop").json()["state"] == "stopped"
    beat = anna.http.post(f"/tasks/{task['task_id']}/heartbeat", json={"progress": 0.5}).json()
    assert (beat["action"], beat["code"]) == ("abort", "job_stopped")
    problem(anna.put(task, update_body(task)), 410, "round_over")
    told = server.http.get(f"/status/{task['round_id']}").json()
    assert (told["state"], told["reason"]) == ("ABANDONED", "an operator stopped the job")
    assert server.http.get("/model/v1").status_code == 200
    assert anna.get_task().headers["Fed-Compute-Reason"] == "job_finished"


@pytest.mark.parametrize(("act", "wanted"), [("pause", "paused"), ("resume", "resumed")])
def test_a_stopped_job_is_not_steered_any_more(server: Served, act: str, wanted: str) -> None:
    assert steer(server, "stop").status_code == 200
    assert steer(server, "stop").status_code == 200  # repeating it changes nothing
    refused = problem(steer(server, act), 409, "job_over")
    assert (refused["state"], refused["want"]) == ("stopped", wanted)


def test_somebody_who_waits_for_work_gets_it_when_the_job_is_resumed(serve_job: Serve) -> None:
    served = serve_job()
    anna = served.join("anna")
    steer(served, "pause")
    assert anna.get_task(wait=0.2).status_code == 204
    steer(served, "resume")
    assert anna.get_task(wait=5).status_code == 200


def test_what_versions_were_made_of_is_told_page_by_page(server: Served) -> None:
    for client in (server.join("anna"), server.join("bob")):
        task = client.task()
        assert client.put(task, update_body(task)).status_code == 201
    assert server.http.get("/aggregate/1", headers={"Authorization": f"Bearer {server.operator_key}"}).is_success
    first = server.http.get("/jobs/default/manifests", params={"limit": 1}).json()
    assert ([one["version"] for one in first["manifests"]], first["next"]) == (["v1"], "v1")
    rest = server.http.get("/jobs/default/manifests", params={"after": "v1"}).json()
    assert ([one["version"] for one in rest["manifests"]], rest["next"]) == (["v2"], None)
    assert server.http.get("/jobs/default/manifests", params={"after": "v9"}).json() == {"manifests": [], "next": None}
