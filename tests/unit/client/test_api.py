"""Calls to the coordinator: what is sent, what is read, and what is tried again."""

from collections.abc import Callable

import httpx2
import numpy as np
import pytest

from fed_compute.client.api import CoordinatorApi, Idle
from fed_compute.client.api_calls import LONGEST_RETRY_SECONDS
from fed_compute.client.patience import StopAsked
from fed_compute.client.recipes import max_model_bytes
from fed_compute.errors import (
    AnswerUnusable,
    CallRefused,
    ClientMustAct,
    CoordinatorBusy,
    CoordinatorUnreachable,
    SettingInvalid,
    TaskOver,
)
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.messages import SAFETENSORS, RegisterRequest, TaskAnswer
from fed_compute.protocol.updates import encode_update
from tests.unit.client.fake_coordinator import FakeCoordinator, answering, problem, unreachable
from tests.unit.client.recipes import recipe_for, start_of


def api_to(
    coordinator: FakeCoordinator, *, max_retries: int = 3, pause: Callable[[float], None] = lambda seconds: None
) -> CoordinatorApi:
    """Return an API object that does not wait between its tries, signed in as `me`."""
    coordinator.keys["me"] = "sk_me_secret"
    return CoordinatorApi(
        "http://coordinator.test",
        api_key="sk_me_secret",
        max_retries=max_retries,
        pause=pause,
        transport=coordinator.transport(),
    )


def api_answering(answer: Callable[[httpx2.Request], httpx2.Response], *, max_retries: int = 0) -> CoordinatorApi:
    return CoordinatorApi(
        "http://coordinator.test", max_retries=max_retries, pause=lambda seconds: None,
        transport=httpx2.MockTransport(answer),
    )  # fmt: skip


def an_update(coordinator: FakeCoordinator) -> bytes:
    recipe = coordinator.recipe
    return encode_update(
        np.ones_like(coordinator.vector),
        encoding=recipe.encoding,
        compression=recipe.compression,
        topk_fraction=recipe.topk_fraction,
        schema_digest=recipe.schema_digest,
        num_samples=3,
        loss=0.5,
        train_seconds=1.0,
        rng=np.random.Generator(np.random.PCG64(0)),
    )


def test_every_call_says_its_protocol_and_its_key() -> None:
    coordinator = FakeCoordinator()
    api_to(coordinator).next_task("me", wait_seconds=25)
    request = coordinator.requests[-1]
    assert request.headers["Fed-Compute-Protocol"] == "1"
    assert request.headers["Authorization"] == "Bearer sk_me_secret"
    assert str(request.url) == "http://coordinator.test/task/me?wait=25"


def test_a_client_may_ask_for_one_job_and_for_training_only() -> None:
    coordinator = FakeCoordinator()
    api_to(coordinator).next_task("me", wait_seconds=5, job="digits", evaluates=False)
    assert dict(coordinator.requests[-1].url.params) == {"wait": "5", "job": "digits", "evaluate": "false"}


def test_registering_gives_the_key_and_sends_no_empty_fields() -> None:
    coordinator = FakeCoordinator()
    api = CoordinatorApi("http://coordinator.test", transport=coordinator.transport())
    answer = api.register(RegisterRequest(client_name="new"))
    assert (answer.client_id, answer.api_key) == ("new", "sk_0_secret")
    assert coordinator.requests[0].content == b'{"client_name":"new"}'


def test_a_task_is_read_with_its_recipe_and_nothing_to_do_with_its_reason() -> None:
    coordinator = FakeCoordinator()
    api = api_to(coordinator)
    task = api.next_task("me", wait_seconds=0)
    assert isinstance(task, TaskAnswer)
    assert task.recipe == coordinator.recipe
    coordinator.open_task, coordinator.given = None, coordinator.tasks_to_give
    assert api.next_task("me", wait_seconds=0) == Idle((0.01, 0.01), "job_finished")


@pytest.mark.parametrize("fault", [unreachable, answering(503, "storage_busy"), answering(429, "rate_limited")])
def test_a_call_that_may_succeed_later_is_tried_again_as_often_as_set(fault: Callable) -> None:
    coordinator = FakeCoordinator(faults={"GET task": [fault, fault, fault]})
    assert isinstance(api_to(coordinator).next_task("me", wait_seconds=0), TaskAnswer)
    assert coordinator.calls["GET task"] == 4


def test_after_the_last_try_the_caller_learns_why() -> None:
    coordinator = FakeCoordinator(faults={"GET task": [unreachable] * 9})
    with pytest.raises(CoordinatorUnreachable, match=r"coordinator\.test.*connection refused"):
        api_to(coordinator, max_retries=2).next_task("me", wait_seconds=0)
    assert coordinator.calls["GET task"] == 3


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(422, "update_not_finite", CallRefused), (410, "round_over", TaskOver), (401, "x", ClientMustAct)],
)
def test_a_call_that_would_fail_again_is_made_once(status: int, code: str, kind: type[Exception]) -> None:
    coordinator = FakeCoordinator(faults={"PUT update": [answering(status, code)] * 5})
    with pytest.raises(kind, match=code):
        api_to(coordinator).submit_update("t_1", b"bytes", SAFETENSORS)
    assert coordinator.calls["PUT update"] == 1


def test_a_short_retry_after_is_obeyed_and_a_long_one_is_left_to_the_caller() -> None:
    """A call must not sleep for an hour with the owner's stop unheard."""
    told = ["7.5", str(LONGEST_RETRY_SECONDS + 1)]
    coordinator = FakeCoordinator(
        faults={"GET task": [answering(503, "x", **{"Retry-After": seconds}) for seconds in told]}
    )
    pauses: list[float] = []
    with pytest.raises(CoordinatorBusy) as caught:
        api_to(coordinator, pause=pauses.append).next_task("me", wait_seconds=0)
    assert pauses == [pytest.approx(7.5, rel=0.21)]
    assert caught.value.retry_after_seconds == LONGEST_RETRY_SECONDS + 1


def test_all_calls_have_one_counter_of_failures_which_an_answer_clears() -> None:
    """Several calls that fail together are one coordinator that is away, not several."""
    fault = {"GET task": [unreachable] * 2, "PUT update": [unreachable] * 2}
    coordinator, pauses = FakeCoordinator(faults=fault), list[float]()
    api = api_to(coordinator, max_retries=1, pause=pauses.append)
    with pytest.raises(CoordinatorUnreachable):
        api.next_task("me", wait_seconds=0)
    assert 0 < api.backoff.seconds_left() < 2 + 4
    with pytest.raises(CoordinatorUnreachable):
        api.submit_update("t_1", b"bytes", SAFETENSORS)
    assert api.backoff.seconds_left() > 2, "the fourth failure counted as the first of another call"
    assert isinstance(api.next_task("me", wait_seconds=0), TaskAnswer)
    api.backoff.failed(CoordinatorUnreachable("again", retry_after_seconds=0.0))
    assert api.backoff.seconds_left() < 2


def test_no_pause_within_a_call_is_longer_than_the_longest() -> None:
    coordinator, pauses = FakeCoordinator(faults={"GET task": [unreachable] * 99}), list[float]()
    with pytest.raises(CoordinatorUnreachable):
        api_to(coordinator, max_retries=100, pause=pauses.append).next_task("me", wait_seconds=0)
    assert 0 < max(pauses) <= LONGEST_RETRY_SECONDS


def test_without_work_the_window_is_told_and_also_keeps_later_retries_apart() -> None:
    headers = {"Retry-After": "250", "Fed-Compute-Retry-Window": "150.000-450.000"}
    coordinator, pauses = FakeCoordinator(faults={"GET task": [unreachable] * 99}), list[float]()
    coordinator.faults["GET task"][:0] = [lambda request: httpx2.Response(204, headers=headers)]
    api = api_to(coordinator, max_retries=0, pause=pauses.append)
    assert api.next_task("me", wait_seconds=0) == Idle((150.0, 450.0), "waiting")
    waits = []
    for _ in range(20):
        with pytest.raises(CoordinatorUnreachable):
            api.next_task("me", wait_seconds=0)
        waits.append(api.backoff.seconds_left())
    assert 225 < max(waits) <= 900


def test_a_client_that_is_asked_to_stop_in_a_pause_does_not_try_again() -> None:
    def pause(seconds: float) -> None:
        raise StopAsked

    coordinator = FakeCoordinator(faults={"GET task": [unreachable] * 9})
    with pytest.raises(StopAsked):
        api_to(coordinator, pause=pause).next_task("me", wait_seconds=0)
    assert coordinator.calls["GET task"] == 1


def test_simulated_latency_comes_before_each_try() -> None:
    coordinator = FakeCoordinator(faults={"GET task": [unreachable]})
    coordinator.keys["me"] = "sk_me_secret"
    waits: list[int] = []
    api = CoordinatorApi(
        "http://coordinator.test", api_key="sk_me_secret", pause=lambda seconds: None,
        before_try=lambda: waits.append(coordinator.calls["GET task"]), transport=coordinator.transport(),
    )  # fmt: skip
    api.next_task("me", wait_seconds=0)
    assert waits == [0, 1]


def test_a_model_is_taken_only_with_the_announced_digest() -> None:
    """A changed model would be trained and sent back as an honest update."""
    coordinator = FakeCoordinator(faults={"GET model": [lambda request: httpx2.Response(200, content=b"cut short")]})
    digest, limit = sha256_hex(coordinator.model_file()), max_model_bytes(coordinator.recipe)
    api = api_to(coordinator)
    assert api.download_model("v1", job="default", digest=digest, max_bytes=limit) == coordinator.model_file()
    assert coordinator.calls["GET model"] == 2
    assert coordinator.requests[-1].headers["Accept"] == SAFETENSORS
    with pytest.raises(AnswerUnusable, match="the task says 0000"):
        api.download_model("v1", job="default", digest="0" * 64, max_bytes=limit)


def test_a_model_longer_than_its_recipe_allows_is_not_read_to_its_end() -> None:
    """The coordinator is not trusted with this machine's memory."""
    sent = 0

    def endless() -> object:
        nonlocal sent
        while True:
            sent += 65_536
            yield bytes(65_536)

    api = api_answering(lambda request: httpx2.Response(200, content=endless()))
    with pytest.raises(AnswerUnusable, match="longer than 100000 bytes"):
        api.download_model("v1", job="default", digest="0" * 64, max_bytes=100_000)
    assert sent < 1_000_000


def test_an_update_whose_reply_was_lost_is_sent_again_and_counts_once() -> None:
    coordinator = FakeCoordinator(lost_replies={"PUT update": 1})
    before = coordinator.vector.copy()
    answer = api_to(coordinator).submit_update("t_1", an_update(coordinator), SAFETENSORS)
    assert answer.repeated
    np.testing.assert_allclose(coordinator.vector - before, 1.0, atol=1e-6)
    assert coordinator.requests[-1].headers["Content-Type"] == SAFETENSORS


def test_heartbeats_and_releases_are_tried_once() -> None:
    """The next heartbeat is the retry, and a client that leaves must not hang."""
    coordinator = FakeCoordinator(faults={"POST heartbeat": [unreachable, None], "DELETE tasks": [unreachable, None]})
    api = api_to(coordinator)
    for call in (lambda: api.heartbeat("t_1", 0.5), lambda: api.release_task("t_1")):
        with pytest.raises(CoordinatorUnreachable):
            call()
        call()
    assert coordinator.calls == {"POST heartbeat": 2, "DELETE tasks": 2}
    assert coordinator.heartbeats == [0.5]


@pytest.mark.parametrize("body", [b"", b"<html>login</html>", b"[]", b'{"round_id": 1}'])
def test_an_answer_from_some_other_program_is_not_taken_for_a_task(body: bytes) -> None:
    api = api_answering(lambda request: httpx2.Response(200, content=body))
    with pytest.raises(AnswerUnusable, match="COORDINATOR_URL"):
        api.next_task("me", wait_seconds=0)


def test_a_redirect_is_not_followed_with_the_key_in_hand() -> None:
    seen: list[str] = []

    def moved(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.host)
        return httpx2.Response(302, headers={"Location": "http://evil.test/"})

    with pytest.raises(ClientMustAct, match=r"evil\.test"):
        api_answering(moved, max_retries=3).next_task("me", wait_seconds=0)
    assert seen == ["coordinator.test"]


def test_ids_cannot_lead_a_call_to_another_path() -> None:
    """Task ids come from the coordinator, names from the owner; both end up in addresses."""
    paths: list[bytes] = []

    def note(request: httpx2.Request) -> httpx2.Response:
        paths.append(request.url.raw_path)
        return problem(404, "task_not_found")

    with pytest.raises(TaskOver):
        api_answering(note).release_task("../admin?x=1#y")
    assert paths == [b"/tasks/..%2Fadmin%3Fx%3D1%23y"]


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port"])
def test_an_address_that_is_none_is_a_setting_error(url: str) -> None:
    with pytest.raises(SettingInvalid, match="COORDINATOR_URL"):
        CoordinatorApi(url)


def test_the_largest_model_allowed_is_the_recipe_s() -> None:
    recipe = recipe_for()
    assert max_model_bytes(recipe) >= 4 * start_of(recipe).size
