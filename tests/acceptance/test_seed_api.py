"""The API as it was first documented, field for field, by clients that know nothing else."""

import json
import subprocess
import time
from typing import Any

import numpy as np
import pytest

from tests.acceptance.conftest import Serve, Served, update_body

ROUND_JOB = """
[model]
name = "simple_mlp"
args = { input_dim = 3, hidden_dim = 2, output_dim = 2 }
[rounds]
total = 3
target_updates = 6
min_updates = 6
"""


def curl(served: Served, path: str, *arguments: str) -> tuple[int, Any]:
    """Call the server as the README does; return status and parsed answer."""
    command = ["curl", "-sS", "-w", "\n%{http_code}", *arguments, f"{served.url}{path}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    body, _, status = output.rpartition("\n")
    return int(status), json.loads(body) if body else None


def post(served: Served, path: str, message: dict[str, Any]) -> tuple[int, Any]:
    return curl(served, path, "-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps(message))


def begins_like(answer: dict[str, Any], documented: dict[str, Any]) -> bool:
    """Say whether the documented fields come first, in order, with values of the documented types."""
    first = dict(list(answer.items())[: len(documented)])
    return list(first) == list(documented) and all(type(first[name]) is type(documented[name]) for name in documented)


@pytest.fixture(scope="module")
def told(serve_job: Serve) -> dict[str, Any]:
    """Take a client of the first API through a whole round; return every transcript by name."""
    served = serve_job("[rounds]\ntotal=2\ntarget_updates=5\nmin_updates=1")
    told: dict[str, Any] = {"root": curl(served, "/"), "register": post(served, "/client/register", NAMED)}
    key = told["register"][1]["api_key"]
    post(served, "/client/register", {"client_name": "client-2"})
    told["task"] = curl(served, f"/task/client-1?api_key={key}")
    told["early"] = curl(served, "/aggregate/1")
    model = curl(served, "/model/v1")
    delta = json.dumps({name: np.full_like(values, 0.125).tolist() for name, values in model[1]["weights"].items()})
    update = {"client_id": "client-1", "round_id": 1, "weight_delta": delta, "api_key": key}
    told |= {"model": model, "update": post(served, "/update", update), "status": curl(served, "/status/1")}
    operator = f"Authorization: Bearer {served.operator_key}"
    told["aggregate"] = curl(served, "/aggregate/1", "-H", operator)
    told["again"] = curl(served, "/aggregate/1")
    for name in ("metrics", "metrics/latest", "metrics/round/1", "reputation", "reputation/client-1"):
        told[name] = curl(served, f"/{name}")
    for name in ("incentives", "incentives/client-1", "async/round/1/stats"):
        told[name] = curl(served, f"/{name}")
    return told


NAMED = {"client_name": "client-1"}


def test_the_root_is_the_health_check(told: dict[str, Any]) -> None:
    status, answer = told["root"]
    assert status == 200
    assert answer["name"] == "fed-compute"
    assert answer["status"] == "running"


def test_registration_answers_as_documented(told: dict[str, Any]) -> None:
    status, answer = told["register"]
    assert status == 200
    assert list(answer) == ["success", "message", "client_id", "api_key"]
    assert answer["success"] is True
    assert answer["message"] == "Client client-1 registered successfully. Save your API key!"
    assert answer["client_id"] == "client-1"
    assert answer["api_key"].startswith("sk_")


def test_a_task_begins_with_the_documented_fields(told: dict[str, Any]) -> None:
    documented = {
        "round_id": 1,
        "model_version": "v1",
        "task": "train",
        "description": "Train local model for round 1",
    }
    status, answer = told["task"]
    assert status == 200
    assert begins_like(answer, documented)
    assert answer | documented == answer


def test_an_update_answers_as_documented(told: dict[str, Any]) -> None:
    documented = {
        "success": True,
        "message": "Update from client client-1 submitted successfully for round 1",
    }
    status, answer = told["update"]
    assert status == 200
    assert begins_like(answer, documented)
    assert answer | documented == answer


def test_a_rounds_status_begins_with_the_documented_fields(told: dict[str, Any]) -> None:
    documented = {
        "round_id": 1,
        "model_version": "v1",
        "state": "COLLECTING",
        "assigned_clients": ["client-1"],
        "updates_received": ["client-1"],
        "total_clients": 1,
        "total_updates": 1,
    }
    status, answer = told["status"]
    assert status == 200
    assert begins_like(answer, documented)
    assert answer | documented == answer


def test_a_round_that_collects_has_no_result_and_says_how_far_it_is(told: dict[str, Any]) -> None:
    status, answer = told["early"]
    assert (status, answer["code"]) == (409, "round_not_closed")
    assert (answer["state"], answer["total_updates"], answer["min_updates"]) == ("COLLECTING", 0, 1)


def test_aggregation_answers_as_documented_to_the_operator_who_closes_and_to_everybody_later(
    told: dict[str, Any],
) -> None:
    documented = {
        "round_id": 1,
        "model_version": "v2",
        "status": "aggregated",
        "aggregated_model": {},
        "num_updates": 1,
    }
    status, answer = told["aggregate"]
    assert status == 200, answer
    assert begins_like(answer, documented)
    moved = {
        name: (np.asarray(values, dtype=np.float32) + np.float32(0.125)).tolist()
        for name, values in told["model"][1]["weights"].items()
    }
    assert answer | {**documented, "aggregated_model": moved} == answer
    assert told["again"] == told["aggregate"]


def test_a_model_is_answered_by_tensor_name(told: dict[str, Any]) -> None:
    status, answer = told["model"]
    assert status == 200
    assert answer["model_version"] == "v1"
    assert np.shape(answer["weights"]["layers.0.weight"]) == (32, 64)


def test_metrics_count_the_round(told: dict[str, Any]) -> None:
    status, answer = told["metrics"]
    assert status == 200
    assert (answer["total_clients"], answer["updates_accepted"], answer["rounds_closed"]) == (2, 1, 1)
    assert told["metrics/round/1"] == (200, answer["rounds"][0])
    assert told["metrics/latest"] == told["metrics/round/1"]
    assert told["metrics/round/1"][1]["state"] == "CLOSED"


def test_reputation_has_the_documented_measures(told: dict[str, Any]) -> None:
    status, answer = told["reputation/client-1"]
    assert status == 200
    assert answer["update_submission_rate"] == 1.0
    assert answer["update_acceptance_rate"] == 1.0
    assert answer["round_dropout_rate"] == 0.0
    assert answer["consistency_score"] == 1.0
    status, everybody = told["reputation"]
    assert status == 200
    assert rounded(everybody["reputations"][0]) == rounded(answer)
    assert [item["client_id"] for item in everybody["reputations"]] == ["client-1", "client-2"]


def rounded(value: Any) -> Any:
    """Return an answer with numbers to six places: standing fades a little from one question to the next."""
    match value:
        case float():
            return round(value, 6)
        case dict():
            return {name: rounded(item) for name, item in value.items()}
        case list():
            return [rounded(item) for item in value]
        case _:
            return value


def test_incentives_pay_with_reasons_that_add_up(told: dict[str, Any]) -> None:
    status, answer = told["incentives/client-1"]
    assert status == 200
    assert {entry["reason"]: entry["tokens"] for entry in answer["entries"]} == {"base": 10.0, "speed_bonus": 2.5}
    assert answer["total_tokens"] == 12.5
    assert answer["micro_tokens"] == sum(entry["micro_tokens"] for entry in answer["entries"]) == 12_500_000
    assert told["incentives"][1]["total_tokens"] == 12.5


def test_async_stats_tell_the_rounds_timing(told: dict[str, Any]) -> None:
    status, answer = told["async/round/1/stats"]
    assert status == 200
    assert (answer["round_id"], answer["min_updates_reached"], answer["updates_received"]) == (1, True, 1)
    assert [arrival["client_id"] for arrival in answer["arrivals"]] == ["client-1"]
    assert answer["stragglers"] == []


def test_every_json_form_of_an_update_counts_like_a_binary_one(serve_job: Serve) -> None:
    served = serve_job(ROUND_JOB)
    shapes = {name: np.shape(values) for name, values in served.http.get("/model/v1").json()["weights"].items()}

    def tensors(value: float) -> dict[str, Any]:
        return {name: np.full(shape, value).tolist() for name, shape in shapes.items()}

    nested = list(tensors(2.0).values())
    flat = [np.ravel(values).tolist() for values in tensors(3.0).values()]
    forms: list[Any] = [
        json.dumps(tensors(1.0)),
        json.dumps(nested),
        json.dumps(flat),
        json.dumps({"weight_delta": tensors(4.0), "num_samples": 64}),
        tensors(5.0),
    ]
    for number, form in enumerate(forms, start=1):
        member = served.join(f"client-{number}", modern=False)
        task = served.http.get(f"/task/{member.client_id}", params={"api_key": member.key}).json()
        assert task["task"] == "train"
        update = {"client_id": member.client_id, "round_id": task["round_id"], "weight_delta": form}
        answer = served.http.post("/update", json={**update, "api_key": member.key})
        assert answer.status_code == 200, answer.text
    binary = served.join("binary")
    task = binary.task()
    assert binary.put(task, update_body(task, value=6.0, num_samples=32)).status_code == 201

    result = result_of(served, 1)
    assert result["num_updates"] == 6
    assert result["num_samples"] == 32 + 32 + 32 + 64 + 32 + 32
    mean = (1 * 32 + 2 * 32 + 3 * 32 + 4 * 64 + 5 * 32 + 6 * 32) / 224
    before = served.http.get("/model/v1").json()["weights"]
    for name, values in result["aggregated_model"].items():
        np.testing.assert_allclose(np.array(values) - np.array(before[name]), mean, rtol=1e-5)


def test_clients_of_the_first_api_are_never_asked_to_evaluate(serve_job: Serve) -> None:
    served = serve_job()
    old, new = served.join("old", modern=False), served.join("new")
    for member in (old, new):
        task = member.task()
        assert member.put(task, update_body(task)).status_code == 201
    result_of(served, 1)
    assert (old.task()["task"], old.task()["round_id"]) == ("train", 2)
    assert (new.task()["task"], new.task()["model_version"]) == ("evaluate", "v2")


def result_of(served: Served, round_id: int) -> dict[str, Any]:
    """Wait for a round's result."""
    give_up_at = time.monotonic() + 20
    while (answer := served.http.get(f"/aggregate/{round_id}")).status_code == 409:
        assert time.monotonic() < give_up_at, answer.text
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_an_operator_is_refused_while_the_minimum_is_not_met(server: Served) -> None:
    server.join("client-1").task()
    answer = server.http.get("/aggregate/1", headers={"Authorization": f"Bearer {server.operator_key}"})
    assert (answer.status_code, answer.json()["code"]) == (409, "round_not_closed")


def test_a_clients_key_does_not_close_a_round(server: Served) -> None:
    member = server.join("client-1")
    task = member.task()
    server.join("client-2").task()
    assert member.put(task, update_body(task)).status_code == 201
    assert member.http.get("/aggregate/1").json()["code"] == "round_not_closed"
    assert server.http.get("/status/1").json()["state"] == "COLLECTING"


def test_keys_in_query_and_body_can_be_switched_off(serve_job: Serve) -> None:
    served = serve_job(allow_query_keys=False)
    member = served.join("client-1")
    refused = served.http.get("/task/client-1", params={"api_key": member.key})
    assert (refused.status_code, refused.json()["code"]) == (401, "authentication_failed")
    update = {"client_id": "client-1", "round_id": 1, "weight_delta": "{}", "api_key": member.key}
    assert served.http.post("/update", json=update).status_code == 401
    assert member.get_task().status_code == 200
