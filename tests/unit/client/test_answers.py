"""What each answer of the coordinator makes the client do."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute import errors
from fed_compute.client.answers import error_of, is_documented, retry_after, retry_window
from fed_compute.errors import (
    CallRefused,
    ClientMustAct,
    CoordinatorBusy,
    FedComputeError,
    ProofOfWorkRequired,
    TaskOver,
)

OVER = {"round_over", "lease_expired", "task_over", "task_not_found", "not_assigned", "round_not_found"}
FOR_THE_OWNER = {
    "authentication_failed", "permission_denied", "client_banned", "invite_required", "invite_invalid",
    "protocol_unsupported", "client_not_found", "client_name_taken", "client_name_invalid", "client_must_act",
}  # fmt: skip
DAMAGED_ON_THE_WAY = {"digest_mismatch", "upload_offset_mismatch"}
"""Refusals that mean something else to a client than `drop it`. Whoever adds one to the product adds it here."""


def document(code: str) -> bytes:
    return json.dumps({"type": "t", "title": "t", "status": 0, "detail": "why it is so", "code": code}).encode()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (408, "x", CoordinatorBusy),
        (425, "x", CoordinatorBusy),
        (429, "rate_limited", CoordinatorBusy),
        (500, "internal_error", CoordinatorBusy),
        (503, "storage_busy", CoordinatorBusy),
        (507, "disk_full", CoordinatorBusy),
        (400, "digest_mismatch", CoordinatorBusy),
        (410, "round_over", TaskOver),
        (410, "anything", TaskOver),
        (410, "lease_expired", TaskOver),
        (404, "task_not_found", TaskOver),
        (403, "not_assigned", TaskOver),
        (401, "authentication_failed", ClientMustAct),
        (403, "client_pending", CoordinatorBusy),
        (403, "permission_denied", ClientMustAct),
        (403, "client_banned", ClientMustAct),
        (403, "invite_required", ClientMustAct),
        (403, "invite_invalid", ClientMustAct),
        (429, "too_many_uploads", CoordinatorBusy),
        (503, "uploads_full", CoordinatorBusy),
        (428, "proof_of_work_required", CallRefused),  # one that brings no challenge
        (426, "protocol_unsupported", ClientMustAct),
        (404, "client_not_found", ClientMustAct),
        (409, "client_name_taken", ClientMustAct),
        (301, "x", ClientMustAct),
        (407, "x", ClientMustAct),
        (422, "update_not_finite", CallRefused),
        (409, "update_conflict", CallRefused),
        (400, "x", CallRefused),
        (404, "version_not_found", CallRefused),
        (413, "body_too_large", CallRefused),
        (418, "x", CallRefused),
    ],
)
def test_each_answer_has_its_class(status: int, code: str, kind: type[FedComputeError]) -> None:
    """Finished work must not be thrown away because of a code that only means `later`."""
    error = error_of(status, {}, document(code))
    assert type(error) is kind
    assert (error.details["answered"], error.details["http_status"]) == (code, status)
    assert "why it is so" in error.message


def wanted_for(kind: type[FedComputeError]) -> type[FedComputeError]:
    """Say what the client must make of a code, by the branch of the tree that its class stands on."""
    if issubclass(kind, errors.NotNow | errors.Broken) or kind.code in DAMAGED_ON_THE_WAY:
        return CoordinatorBusy
    if kind.code in OVER:
        return TaskOver
    return ClientMustAct if kind.code in FOR_THE_OWNER else CallRefused


@pytest.mark.parametrize("status", [None, 400, 502], ids=["its own status", "as 400", "as 502"])
@pytest.mark.parametrize("kind", errors.error_kinds().values(), ids=lambda kind: kind.code)
def test_every_code_of_the_product_is_judged_by_its_class_whatever_the_status(
    kind: type[FedComputeError], status: int | None
) -> None:
    """A new error must not be dropped or repeated by accident, and a proxy that rewrites a status must not decide."""
    error = error_of(kind.status if status is None else status, {}, document(kind.code))
    assert type(error) is wanted_for(kind)


def test_the_tree_is_read_whole() -> None:
    branches = {errors.Refused, errors.NotNow, errors.Misuse, errors.Broken}
    assert {kind for kind in errors.error_kinds().values() if kind.__base__ is FedComputeError} == branches
    assert set(errors.error_kinds()) >= OVER | FOR_THE_OWNER | DAMAGED_ON_THE_WAY


@pytest.mark.parametrize(("body", "documented"), [(document("update_malformed"), True), (b"<h1>404</h1>", False),
                                                  (document("from_the_future"), False)])  # fmt: skip
def test_a_refusal_that_no_coordinator_of_this_version_gives_can_be_told_apart(body: bytes, documented: bool) -> None:
    error = error_of(404, {}, body)
    assert isinstance(error, CallRefused)
    assert is_documented(error) is documented


@given(
    status=st.integers(100, 599).filter(lambda status: not 200 <= status < 300),
    body=st.binary(max_size=300) | st.text(max_size=50).map(document),
    header=st.text(max_size=20),
)
def test_any_answer_whatever_has_a_class(status: int, body: bytes, header: str) -> None:
    """Proxies answer with pages, hotspots with forms, attackers with anything."""
    error = error_of(status, {"retry-after": header, "location": header}, body)
    assert isinstance(error, CoordinatorBusy | TaskOver | ClientMustAct | CallRefused)
    assert len(error.message) < 1200


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2", 2.0), ("0", 0.0), ("1.5", 1.5), ("999999999", 86_400.0), ("-1", None), ("nan", None), ("inf", None)],
)
def test_retry_after_is_read_in_seconds_and_at_most_a_day(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}) == seconds


def test_a_date_in_retry_after_counts_as_no_advice() -> None:
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) is None


@pytest.mark.parametrize(
    ("status", "advice"), [(426, "upgrade"), (401, "CLIENT_API_KEY"), (308, "set COORDINATOR_URL to https://new")]
)
def test_what_only_the_owner_can_repair_says_how(status: int, advice: str) -> None:
    assert advice in error_of(status, {"location": "https://new"}, document("x")).message


def asking(**changed: object) -> bytes:
    """Return an answer that asks for a proof of work, with some members changed."""
    members = {"challenge": "pow1.x", "difficulty_bits": 20, "algorithm": "sha-256", "expires_at": 1.0, **changed}
    told = {"type": "t", "title": "t", "status": 428, "detail": "do some work", "code": "proof_of_work_required"}
    return json.dumps({**told, **members}).encode()


def test_a_challenge_is_handed_on_to_be_solved() -> None:
    error = error_of(428, {}, asking())
    assert isinstance(error, ProofOfWorkRequired)
    assert (error.challenge, error.difficulty_bits) == ("pow1.x", 20)


@pytest.mark.parametrize(
    "changed",
    [
        {"challenge": 7},
        {"challenge": ""},
        {"challenge": "x" * 201},
        {"challenge": "two words"},
        {"challenge": "ä"},
        {"difficulty_bits": 0},
        {"difficulty_bits": 257},
        {"difficulty_bits": "20"},
        {"algorithm": "md5"},
        {"expires_at": None},
    ],
)
def test_a_challenge_that_makes_no_sense_is_a_refusal(changed: dict[str, object]) -> None:
    """The coordinator is not trusted with this machine's time."""
    assert type(error_of(428, {}, asking(**changed))) is CallRefused


@pytest.mark.parametrize(
    ("headers", "window"),
    [
        ({"fed-compute-retry-window": "1.500-4.500", "retry-after": "3"}, (1.5, 4.5)),
        ({"fed-compute-retry-window": "0-1e9"}, (0, 86_400)),
        ({"retry-after": "3"}, (3, 3)),
        ({"fed-compute-retry-window": "9-3", "retry-after": "3"}, (3, 3)),
        ({"fed-compute-retry-window": "nan-nan"}, None),
        ({"fed-compute-retry-window": "1-inf"}, None),
        ({"fed-compute-retry-window": "-5"}, None),
        ({}, None),
    ],
)
def test_the_window_that_is_told_comes_before_retry_after(headers: dict[str, str], window: object) -> None:
    assert retry_window(headers) == window
