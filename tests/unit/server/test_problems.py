"""Every error becomes a problem document, whatever is in it, and none tells a secret."""

import errno
import json
import math
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fed_compute.errors import BlobMissing, FedComputeError, RateLimited, RequestInvalid, UpdateNormTooLarge
from fed_compute.server.problems import (
    UnexpectedErrors,
    answer_with_problem,
    install_problem_handlers,
    invalid,
    problem_response,
)

KEY = "sk_0123456789_" + "a" * 49


def app_that_raises(error: Exception) -> TestClient:
    app = FastAPI()
    install_problem_handlers(app, answer_with_problem)
    app.add_middleware(UnexpectedErrors)

    @app.get("/")
    def fail() -> None:
        raise error

    return TestClient(app)


def document_of(error: FedComputeError) -> dict[str, Any]:
    return dict(json.loads(bytes(problem_response(error).body)))


def test_an_error_nobody_foresaw_says_nothing_about_the_inside() -> None:
    answer = app_that_raises(RuntimeError("secret detail")).get("/")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


def test_a_fault_inside_keeps_its_code_but_not_its_words() -> None:
    answer = app_that_raises(BlobMissing("0" * 64)).get("/")
    assert (answer.status_code, answer.json()["code"]) == (500, "blob_missing")
    assert "0" * 64 not in answer.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_as_one(number: int) -> None:
    answer = app_that_raises(OSError(number, "No space left on device")).get("/")
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert answer.headers["retry-after"] == "60"


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
def test_a_disk_that_fails_is_told_as_one_and_logged_with_its_cause(number: int) -> None:
    with capture_logs() as logs:
        answer = app_that_raises(OSError(number, "what the system says")).get("/")
    assert (answer.status_code, answer.json()["code"]) == (503, "disk_failed")
    assert answer.headers["retry-after"] == "60"
    assert "what the system says" not in answer.text
    assert "what the system says" in logs[0]["cause"]


def test_another_system_error_is_a_fault_of_ours() -> None:
    assert app_that_raises(OSError(errno.ENOENT, "No such file")).get("/").json()["code"] == "internal_error"


def test_a_wait_is_told_in_whole_seconds_rounded_up() -> None:
    response = problem_response(rate_limited())
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")


def test_a_refusal_by_a_rate_limit_tells_the_limit_in_the_standard_fields() -> None:
    """The names and forms are those of draft-ietf-httpapi-ratelimit-headers-11."""
    response = problem_response(rate_limited())
    assert response.headers["ratelimit-policy"] == '"requests";q=1;w=60'
    assert response.headers["ratelimit"] == '"requests";r=0;t=2'
    assert document_of(rate_limited())["violated-policies"] == ["requests"]
    sent = problem_response(rate_limited(unit="content-bytes"))
    assert sent.headers["ratelimit-policy"] == '"requests";q=1;qu="content-bytes";w=60'


def rate_limited(unit: str = "requests") -> RateLimited:
    """Return a refusal by a limit of one unit a minute."""
    return RateLimited(
        limit="1 per minute",
        retry_after_seconds=1.2,
        policy="requests",
        quota=1,
        window_seconds=60,
        remaining=0,
        unit=unit,
    )


def test_numbers_that_json_cannot_say_are_told_as_text() -> None:
    assert document_of(UpdateNormTooLarge(got=math.inf, limit=1.0))["got"] == "inf"


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=50))
def test_any_text_that_was_sent_can_be_told_back(text: str) -> None:
    document = document_of(RequestInvalid(f"found {text}", got=text, nested={"list": [text]}))
    assert document["got"] == text


def test_details_never_replace_the_documents_own_members() -> None:
    document = document_of(RequestInvalid("no", status=200, code="fine", title="fine"))
    assert (document["status"], document["code"], document["title"]) == (422, "invalid_request", "Unprocessable Entity")


def test_a_key_that_was_sent_is_never_told_back() -> None:
    document = document_of(RequestInvalid(f"found {KEY}", got=KEY, inside=[{"key": KEY}]))
    assert KEY not in json.dumps(document)
    findings: list[dict[str, Any]] = [
        {"loc": ("query", "api_key"), "msg": "too long", "input": "something secret"},
        {"loc": ("body",), "msg": "wrong", "input": {"api_key": "something secret"}},
        {"loc": ("body", "client_name"), "msg": "wrong", "input": KEY},
    ]
    refusal = invalid(findings)
    assert "secret" not in refusal.message + str(refusal.details)
    assert KEY not in refusal.message + str(refusal.details)


def test_a_refusal_of_a_message_names_field_found_and_wanted() -> None:
    refusal = invalid([{"loc": ("body", "round_id"), "msg": "Input should be a valid integer", "input": "one"}])
    assert refusal.message == "body.round_id: Input should be a valid integer, found 'one'"
    assert refusal.details["errors"] == [
        {"field": "body.round_id", "found": "'one'", "wanted": "Input should be a valid integer"}
    ]
