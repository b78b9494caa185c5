"""More than a thousand wrong requests over real HTTP: refused with a documented code, and nothing on record changes."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.bad_inputs import authentication, containers, http, messages, protocol, values
from tests.acceptance.bad_inputs.case import Case, case
from tests.acceptance.bad_inputs.judge import PROBLEM, Documented, complaints
from tests.acceptance.bad_inputs.stage import MODEL, Stage, set_up
from tests.acceptance.bad_inputs.wire import Reply, exchange
from tests.acceptance.conftest import SMALL_JOB, Serve, problem, require_sound, update_body

CLASSES: dict[str, tuple[int, list[Case]]] = {
    "http": (120, list(http.cases())),
    "messages": (200, list(messages.cases())),
    "containers": (250, list(containers.cases())),
    "values": (120, list(values.cases())),
    "protocol": (150, list(protocol.cases())),
    "authentication": (80, list(authentication.cases())),
}
"""Classes of wrong requests, with the least number of cases that each promises."""


@pytest.fixture(scope="module")
def stage(serve_job: Serve) -> Iterator[Stage]:
    """A server that all cases are sent to, one after the other."""
    with closing(set_up(serve_job)) as stage:
        yield stage


@pytest.fixture(scope="module")
def documented(stage: Stage) -> Documented:
    return Documented(stage.served.http.get("/openapi.json").json())


def test_there_are_as_many_cases_as_promised_and_no_two_of_one_name() -> None:
    assert sum(len(cases) for _, cases in CLASSES.values()) >= 1_000
    for kind, (least, cases) in CLASSES.items():
        assert len(cases) >= least, kind
        assert len({case.name for case in cases}) == len(cases), kind


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", CLASSES)
def test_every_wrong_request_is_refused_and_changes_nothing(
    stage: Stage, documented: Documented, kind: str, server_log: Path
) -> None:
    secrets = [holder.key for holder in stage.holders.values()] + [stage.names["operator"]]
    before, wrong, log_before = stage.fingerprint(), [], server_log.stat().st_size
    for wrong_request in CLASSES[kind][1]:
        sent = wrong_request.build(stage)
        reply = exchange(stage.address, sent, cut=wrong_request.cut)
        found = complaints(wrong_request, sent, reply, documented, secrets=secrets)
        if stage.fingerprint() != before:
            found.append("changed what is on record; the rest was not sent")
        wrong += [f"{wrong_request.name}: {complaint}" for complaint in found]
        if "the rest was not sent" in str(found):
            break
    logged = server_log.read_text()[log_before:]
    assert logged
    wrong += ["a key is in the log"] if any(secret in logged for secret in secrets) else []
    wrong += ["the log has a traceback"] if "Traceback" in logged or "request_failed" in logged else []
    assert wrong == [], "\n".join([f"{len(wrong)} of {len(CLASSES[kind][1])}:", *wrong])


def test_after_all_that_leases_are_alive_a_round_completes_and_everything_is_sound(stage: Stage) -> None:
    served, holder = stage.served, stage.holders["default"]
    headers = {"Authorization": f"Bearer {served.operator_key}", "Content-Type": "application/toml"}
    text = f'name = "last"\n{MODEL}[rounds]\ntotal = 1\ntarget_updates = 2\nmin_updates = 2\n'
    assert served.http.post("/jobs", content=text, headers=headers).status_code == 201
    for name in ("good-1", "good-2"):
        member = served.join(name)
        task = member.get_task(job="last").json()
        assert member.put(task, update_body(task)).status_code == 201
    body = holder.encode([0.5] * holder.num_parameters)
    sent = exchange(stage.address, containers.put(stage, body))
    assert sent is not None
    assert sent.status == 201
    while served.http.get(f"/aggregate/{task['round_id']}").status_code != 200:
        assert served.http.get(f"/status/{task['round_id']}").json()["state"] != "ABANDONED"
    require_sound(served.coordinator)


def answer(status: int, kind: str = PROBLEM, **changed: object) -> Reply:
    """Return a right refusal, but for what is changed."""
    right = {"type": "urn:fed-compute:error:not_found", "title": "Not Found", "status": 404, "code": "not_found"}
    document = {**right, "detail": "there is nothing here", **changed}
    return Reply(status, {"content-type": kind}, json.dumps(document).encode())


PLANTED: dict[str, tuple[Reply | None, str]] = {
    "no answer": (None, "hung up"),
    "an answer that all is well": (answer(200), "answered 200"),
    "a fault of ours": (answer(500), "answered 500"),
    "another form": (answer(404, "application/json"), "no problem document"),
    "a traceback": (answer(404, at='File "a.py"'), "inside"),
    "a folder": (answer(404, detail="cannot open /tmp/x"), "inside"),
    "a key": (answer(404, found="sk_secret"), "a key"),
    "another code": (answer(404, code="job_not_found"), "wanted"),
    "a code that is not known": (answer(404, code="x"), "code x"),
    "no sentence": (answer(404, detail=""), "not whole"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_wrong_answer_is_noticed(planted: str) -> None:
    reply, complaint = PLANTED[planted]
    nothing = Documented({"paths": {}})
    wrong_request = case("planted", lambda _: b"", (404, "not_found"))
    assert complaint in str(complaints(wrong_request, b"GET /x HTTP/1.1\r\n", reply, nothing, secrets=["sk_secret"]))
    allowed = replace(wrong_request, may_hang_up=True)
    assert complaints(allowed, b"", None, nothing, secrets=[]) == []
    assert complaints(wrong_request, b"", answer(404), nothing, secrets=["sk_secret"]) == []


def test_a_code_that_its_call_does_not_document_is_noticed() -> None:
    call = {"responses": {"404": {"description": "Not Found: `job_not_found`"}}}
    documented = Documented({"paths": {"/jobs/{name}": {"get": call}}})
    line = b"GET /jobs/x?a=b HTTP/1.1\r\n"
    assert documented.names(line, 404, "job_not_found")
    assert not documented.names(line, 404, "task_not_found")
    assert not documented.names(line, 410, "job_not_found")


def test_a_refusal_says_what_was_found_and_what_was_wanted(stage: Stage) -> None:
    told = stage.served.http.post("/client/register", json={"client_name": 7, "nam": 1})
    document = problem(told, 422, "invalid_request")
    assert [{"field", "found", "wanted"} == error.keys() for error in document["errors"]] == [True, True]
    told = stage.served.http.get("/", headers={"Fed-Compute-Protocol": "2"})
    document = problem(told, 426, "protocol_unsupported")
    assert (document["lowest"], document["highest"], told.headers["upgrade"]) == (1, 1, "fed-compute/1")


def test_too_many_requests_are_told_when_to_come_back(serve_job: Serve) -> None:
    served = serve_job(requests_per_minute=3, registrations_per_hour=1)
    member = served.join("client-1")
    answers = [member.get_task() for _ in range(4)]
    problem(answers[-1], 429, "rate_limited")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    second = served.http.post("/client/register", json={"client_name": "client-2"})
    problem(second, 429, "rate_limited")


def test_a_server_without_a_job_answers_what_it_can(serve_job: Serve) -> None:
    served = serve_job(None)
    assert served.http.get("/").json()["job"] is None
    assert served.http.get("/metrics").json()["total_rounds"] == 0
    for path in ("/model/latest", "/metrics/latest"):
        problem(served.http.get(path), 404, "job_not_found")
    member = served.join("client-1")
    assert member.get_task().status_code == 204


def test_an_abandoned_round_has_no_result_and_says_so(serve_job: Serve) -> None:
    served = serve_job(SMALL_JOB.replace("deadline_seconds = 600", "deadline_seconds = 0.2"))
    served.join("client-1").task()
    state = ""
    while state != "ABANDONED":
        state = served.http.get("/status/1").json()["state"]
    document = problem(served.http.get("/aggregate/1"), 409, "round_not_closed")
    assert "given up" in document["detail"]
