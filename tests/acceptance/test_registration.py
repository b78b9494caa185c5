"""Each policy of registration over real HTTP: what a stranger is told, and what the product's own client does."""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fed_compute.cli.main import main
from fed_compute.client.api import CoordinatorApi, Idle
from fed_compute.client.config import ClientSettings
from fed_compute.errors import ClientMustAct, CoordinatorBusy
from fed_compute.protocol.messages import TaskAnswer
from fed_compute.protocol.proof_of_work import solve
from tests.acceptance.conftest import Serve, Served, problem, update_body
from tests.unit.client.parts import account_in

BITS = 8


def register(served: Served, name: str, **more: Any) -> httpx2.Response:
    """Register as a client of the first API does, with more if it knows how."""
    return served.http.post("/client/register", json={"client_name": name, **more})


@contextlib.contextmanager
def product_client(served: Served, folder: Path, name: str, **settings: Any) -> Iterator[tuple[CoordinatorApi, str]]:
    """Sign in as `fed-compute join` does; give the connection and the name."""
    given = ClientSettings(coordinator_url=served.url, client_name=name, client_state_dir=folder, **settings)
    api = CoordinatorApi(served.url, max_retries=0)
    account = account_in(folder, api, given)
    try:
        yield api, account.sign_in()
    finally:
        account.sign_out()
        api.close()


def operate(served: Served, *words: str) -> int:
    """Run a command as the operator of a server."""
    return main([*words, "--url", served.url, "--data-dir", str(served.data_dir)])


def operator(served: Served) -> dict[str, str]:
    return {"Authorization": f"Bearer {served.operator_key}"}


@pytest.fixture(scope="module")
def by_invitation(serve_job: Serve) -> Served:
    return serve_job(registration="invite")


@pytest.fixture(scope="module")
def by_work(serve_job: Serve) -> Served:
    return serve_job(registration="proof-of-work", difficulty_bits=BITS)


# --- open ---------------------------------------------------------------------------------------


def test_where_everybody_may_come_the_answer_is_the_documented_one(server: Served) -> None:
    answer = register(server, "anna")
    assert answer.status_code == 200
    assert list(answer.json()) == ["success", "message", "client_id", "api_key"]
    assert answer.headers["cache-control"] == "no-store"


# --- invite -------------------------------------------------------------------------------------


def test_without_an_invitation_a_stranger_is_told_to_ask_for_one(by_invitation: Served) -> None:
    document = problem(register(by_invitation, "anna"), 403, "invite_required")
    assert "fed-compute join URL --invite" in document["detail"]


def test_the_line_that_the_operator_hands_out_lets_a_volunteer_in_once(
    by_invitation: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert operate(by_invitation, "invite", "create", "--label", "for anna") == 0
    line = re.search(r"fed-compute join (\S+) --invite (\S+)", capsys.readouterr().out)
    assert line is not None
    assert line[1] == by_invitation.url
    with product_client(by_invitation, tmp_path, "anna", client_invite=line[2]) as (api, name):
        assert isinstance(api.next_task(name, wait_seconds=0), TaskAnswer)
    document = problem(register(by_invitation, "bob", invite=line[2]), 403, "invite_invalid")
    assert document["found"] == "used up"


def test_the_product_says_what_its_owner_has_to_do(by_invitation: Served, tmp_path: Path) -> None:
    with (
        pytest.raises(ClientMustAct, match="ask its operator for one"),
        product_client(by_invitation, tmp_path, "uninvited"),
    ):
        pass
    assert not list(tmp_path.rglob("*.json"))


def test_an_invitation_that_was_taken_back_opens_nothing(
    by_invitation: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert operate(by_invitation, "invite", "create", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert operate(by_invitation, "invite", "revoke", made["invite"]) == 0
    assert problem(register(by_invitation, "carl", invite=made["invite"]), 403, "invite_invalid")["found"] == "revoked"


def test_a_quota_is_told_as_nothing_to_do_until_tomorrow(serve_job: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    served = serve_job(registration="invite")
    assert operate(served, "invite", "create", "--uses", "2", "--rounds-per-day", "1", "--json") == 0
    invite = json.loads(capsys.readouterr().out)["invite"]
    keys = [register(served, name, invite=invite).json()["api_key"] for name in ("anna", "bob")]
    api = CoordinatorApi(served.url, api_key=keys[0], max_retries=0)
    first = api.next_task("anna", wait_seconds=0)
    assert isinstance(first, TaskAnswer)
    task = first.model_dump()
    api.submit_update(first.task_id, update_body(task), "application/vnd.safetensors")
    other = CoordinatorApi(served.url, api_key=keys[1], max_retries=0)
    second = other.next_task("bob", wait_seconds=0)
    assert isinstance(second, TaskAnswer)
    other.submit_update(second.task_id, update_body(second.model_dump()), "application/vnd.safetensors")
    while not isinstance(idle := api.next_task("anna", wait_seconds=1), Idle) or idle.reason == "waiting":
        assert not (isinstance(idle, TaskAnswer) and idle.task == "train"), "a second round within a day"
        if isinstance(idle, TaskAnswer):
            api.release_task(idle.task_id)
    assert idle == Idle((3600.0, 3601.5), "quota_used")
    api.close()
    other.close()


# --- approval -----------------------------------------------------------------------------------


def test_a_client_waits_for_approval_and_then_goes_on_with_the_same_key(
    serve_job: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = serve_job(registration="approval")
    with product_client(served, tmp_path, "anna") as (api, name):
        with pytest.raises(CoordinatorBusy, match="waits for an operator's approval") as waiting:
            api.next_task(name, wait_seconds=0)
        assert (waiting.value.details["answered"], waiting.value.retry_after_seconds) == ("client_pending", 60.0)
        assert operate(served, "client", "list", "--state", "pending", "--json") == 0
        assert [client["client_id"] for client in json.loads(capsys.readouterr().out)] == ["anna"]
        assert operate(served, "client", "approve", "anna") == 0
        assert isinstance(api.next_task(name, wait_seconds=0), TaskAnswer)


def test_a_client_of_the_first_api_is_told_that_it_waits(serve_job: Serve) -> None:
    served = serve_job(registration="approval")
    answer = register(served, "anna").json()
    assert answer["state"] == "pending"
    assert answer["message"].endswith("It waits for an operator's approval.")
    refused = served.http.get("/task/anna", params={"api_key": answer["api_key"]})
    assert "GET /client/{client_id}" in problem(refused, 403, "client_pending")["detail"]
    standing = served.http.get("/client/anna", params={"api_key": answer["api_key"]}).json()
    assert (standing["client_id"], standing["state"]) == ("anna", "pending")
    served.http.post("/admin/clients/anna/approve", headers=operator(served)).raise_for_status()
    assert served.http.get("/client/anna", params={"api_key": answer["api_key"]}).json()["state"] == "active"


def test_a_pending_client_is_not_waited_for_by_a_round(serve_job: Serve) -> None:
    served = serve_job(registration="approval")
    keys = {name: register(served, name).json()["api_key"] for name in ("anna", "bob")}
    served.http.post("/admin/clients/anna/approve", headers=operator(served)).raise_for_status()
    served.http.get("/client/bob", params={"api_key": keys["bob"]}).raise_for_status()
    api = CoordinatorApi(served.url, api_key=keys["anna"])
    task = api.next_task("anna", wait_seconds=0)
    assert isinstance(task, TaskAnswer)
    api.submit_update(task.task_id, update_body(task.model_dump()), "application/vnd.safetensors")
    api.close()
    state = ""
    while state != "CLOSED":
        state = served.http.get(f"/status/{task.round_id}").json()["state"]


# --- proof of work ------------------------------------------------------------------------------


def test_the_product_does_the_work_by_itself(by_work: Served, tmp_path: Path) -> None:
    with product_client(by_work, tmp_path, "anna") as (api, name):
        assert isinstance(api.next_task(name, wait_seconds=0), TaskAnswer)


def test_a_stranger_is_told_what_to_do_and_can_do_it_from_what_it_is_told(by_work: Served) -> None:
    document = problem(register(by_work, "stranger"), 428, "proof_of_work_required")
    assert (document["difficulty_bits"], document["algorithm"]) == (BITS, "sha-256")
    assert "register again with" in document["detail"]
    solution = solve(document["challenge"], difficulty_bits=document["difficulty_bits"])
    proof = {"challenge": document["challenge"], "solution": solution}
    assert register(by_work, "stranger", proof=proof).status_code == 200
    again = problem(register(by_work, "another", proof=proof), 428, "proof_of_work_required")
    assert "met before" in again["detail"]


def test_one_solution_lets_one_of_many_in(by_work: Served) -> None:
    document = problem(register(by_work, "one-of-many"), 428, "proof_of_work_required")
    solution = solve(document["challenge"], difficulty_bits=BITS)
    proof = {"challenge": document["challenge"], "solution": solution}
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: statuses.append(register(by_work, f"many-{n}", proof=proof).status_code))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [428] * 7


@pytest.mark.parametrize(
    "proof",
    [
        {"challenge": "x"},
        {"challenge": "x", "solution": 7},
        {"challenge": "x" * 201, "solution": "7"},
        {"challenge": "x", "solution": "7" * 21},
        {"challenge": "x", "solution": "7", "bits": 1},
        "x",
    ],
)
def test_a_proof_of_another_form_is_an_invalid_request(by_work: Served, proof: Any) -> None:
    problem(register(by_work, "anna", proof=proof), 422, "invalid_request")


def test_asking_for_a_challenge_uses_up_no_registration(serve_job: Serve) -> None:
    served = serve_job(registration="proof-of-work", difficulty_bits=1, registrations_per_hour=1)
    for _ in range(3):
        document = problem(register(served, "anna"), 428, "proof_of_work_required")
    proof = {"challenge": document["challenge"], "solution": solve(document["challenge"], difficulty_bits=1)}
    assert register(served, "anna", proof=proof).status_code == 200
    problem(register(served, "bob", proof=proof), 429, "rate_limited")


# --- shut out -----------------------------------------------------------------------------------


def test_a_client_that_is_shut_out_is_refused_at_its_next_request_and_its_tree_with_it(
    serve_job: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    served = serve_job()
    root = served.join("root")
    task = root.task()
    assert operate(served, "invite", "create", "--inviter", "root", "--json") == 0
    invite = json.loads(capsys.readouterr().out)["invite"]
    child = register(served, "child", invite=invite).json()["api_key"]
    assert operate(served, "client", "ban", "root", "--with-invited", "--reason", "sends noise") == 0
    assert capsys.readouterr().out.split() == ["root", "is", "banned", "child", "is", "banned"]
    for answer in (
        root.get_task(),
        root.http.post(f"/tasks/{task['task_id']}/heartbeat", json={}),
        root.put(task, update_body(task)),
        served.http.get("/client/root", headers={"Authorization": f"Bearer {root.key}"}),
        served.http.get("/task/child", params={"api_key": child}),
    ):
        document = problem(answer, 403, "client_banned")
        assert "noise" not in json.dumps(document), "the reason is for operators"
    assert operate(served, "client", "show", "root", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["state_reason"], shown["lease"], shown["invited"]) == (
        "banned", "sends noise", None, ["child"],
    )  # fmt: skip
    assert operate(served, "client", "unban", "root") == 0
    assert root.get_task().status_code == 200
    problem(served.http.get("/task/child", params={"api_key": child}), 403, "client_banned")


def test_a_client_renews_its_key_and_both_are_good_for_a_while(server: Served) -> None:
    anna = server.join("anna")
    renewed = anna.http.post("/client/anna/key/rotate")
    assert renewed.status_code == 200
    assert renewed.headers["cache-control"] == "no-store"
    new = {"Authorization": f"Bearer {renewed.json()['api_key']}"}
    for headers in (None, new):
        assert anna.http.get("/task/anna", headers=headers).status_code == 200
    told = anna.http.get("/client/anna").json()
    assert told["key_expires_at"] == pytest.approx(renewed.json()["old_keys_end_at"], abs=1)
    ended = server.http.post("/client/anna/key/rotate", headers=new, json={"overlap_hours": 0}).json()
    assert ended["client_id"] == "anna"
    for headers in (None, new):
        problem(anna.http.get("/task/anna", headers=headers), 401, "authentication_failed")
    last = {"Authorization": f"Bearer {ended['api_key']}"}
    assert anna.http.get("/task/anna", headers=last).status_code == 200


def test_a_revoked_key_is_refused_though_its_connection_is_open(
    server: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    anna = server.join("anna")
    assert anna.get_task().status_code == 200
    assert operate(server, "key", "revoke", anna.key.split("_")[1]) == 0
    problem(anna.get_task(), 401, "authentication_failed")
    assert operate(server, "client", "rotate", "anna", "--json") == 0
    key = json.loads(capsys.readouterr().out.partition("\n")[2])["api_key"]
    assert anna.http.get("/task/anna", headers={"Authorization": f"Bearer {key}"}).status_code == 200
