"""A client that never loses work: what it does with a finished update until there is an answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fed_compute.client.errands import Errands
from fed_compute.client.own_folder import OwnFolder, own_folders
from fed_compute.client.trainer import set_threads
from fed_compute.errors import ClientMustAct, StateUnusable
from tests.unit.client.fake_coordinator import FakeCoordinator, answering, problem, unreachable
from tests.unit.client.recipes import blobs, recipe_for
from tests.unit.client.volunteer import Volunteer, volunteer_at

Act = Callable[[str, dict[str, Any]], None]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


def me_at(coordinator: FakeCoordinator, state_dir: Path, **how: Any) -> Volunteer:
    return volunteer_at(coordinator, state_dir, client_name="me", **how)


def waiting(state_dir: Path) -> list[str]:
    (own,) = own_folders(state_dir)
    return sorted(path.stem for path in own.spool.glob("*.update"))


def aside(state_dir: Path) -> list[str]:
    (own,) = own_folders(state_dir)
    return sorted(path.stem for path in own.aside.glob("*.update"))


def updates_sent(volunteer: Volunteer) -> list[str | None]:
    return [one.task_id for one in volunteer.sent.departures if one.kind == "update"]


def stopped_while_sending(coordinator: FakeCoordinator, state_dir: Path, *, sent_before: int = 0) -> Volunteer:
    """Let a client train, find nobody at home when it wants to send, and be stopped by its owner."""
    coordinator.faults["PUT update"] = [*[None] * sent_before, unreachable, unreachable]
    first = me_at(coordinator, state_dir)
    first.stop_at("waiting", times=2)
    assert first.run() == sent_before
    first.client.close()
    return first


def test_an_update_is_on_the_disk_before_its_first_byte_is_sent_and_gone_after_its_answer(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(tasks_to_give=2)
    seen: list[list[str]] = []

    def arrived(request: httpx2.Request) -> None:
        if request.method == "PUT":
            seen.append(waiting(tmp_path))

    coordinator.on_arrival = arrived
    assert me_at(coordinator, tmp_path).run(until_finished=True) == 2
    assert seen == [["t_1"], ["t_2"]]
    assert waiting(tmp_path) == []


def test_a_client_that_is_stopped_before_the_answer_keeps_its_lease_and_sends_at_the_next_start(
    tmp_path: Path,
) -> None:
    coordinator = FakeCoordinator()
    first = stopped_while_sending(coordinator, tmp_path)
    assert (waiting(tmp_path), coordinator.released) == (["t_1"], [])
    second = me_at(coordinator, tmp_path)
    assert second.run(until_finished=True) == 1
    assert second.watcher.names() == ["signed_in", "update_found", "sending", "update_accepted", "job_finished"]
    assert (waiting(tmp_path), list(coordinator.updates)) == ([], ["t_1"])
    assert updates_sent(second) == ["t_1"], "two attempts are one departure"
    assert (first.client is not second.client, coordinator.calls["GET task"]) == (True, 2), "nothing was trained twice"


def test_an_update_that_was_not_logged_yet_is_counted_and_logged_when_it_is_sent(tmp_path: Path) -> None:
    """The client died between keeping it and writing down that it leaves."""
    coordinator = FakeCoordinator()

    class DeadError(BaseException):
        pass

    def die(errands: Errands, *args: Any) -> None:
        raise DeadError

    first = me_at(coordinator, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Errands, "_send", die)
        with pytest.raises(DeadError):
            first.run()
    first.client.close()
    assert (waiting(tmp_path), updates_sent(first)) == (["t_1"], [])
    second = me_at(coordinator, tmp_path, client_max_rounds_per_day=1)
    assert second.run(max_tasks=1, until_finished=True) == 1
    assert updates_sent(second) == ["t_1"]


@pytest.mark.parametrize("code", ["round_over", "lease_expired", "task_not_found", "not_assigned"])
def test_an_update_whose_lease_is_over_is_dropped_with_a_line(tmp_path: Path, code: str) -> None:
    coordinator = FakeCoordinator()
    stopped_while_sending(coordinator, tmp_path)
    coordinator.faults["PUT update"] = [answering(410, code)]
    coordinator.open_task = None
    second = me_at(coordinator, tmp_path)
    assert second.run(until_finished=True) == 0
    (over,) = second.watcher.all("task_over")
    assert (over["task_id"], code in over["why"]) == ("t_1", True)
    assert (waiting(tmp_path), coordinator.released) == ([], [])


def test_an_update_that_is_refused_is_dropped_with_a_line_and_its_lease_given_back(tmp_path: Path) -> None:
    coordinator = FakeCoordinator()
    stopped_while_sending(coordinator, tmp_path)
    coordinator.faults["PUT update"] = [answering(422, "update_malformed")]
    second = me_at(coordinator, tmp_path)
    assert second.run(until_finished=True) == 0
    assert second.watcher.all("update_refused")[0]["code"] == "update_malformed"
    assert (waiting(tmp_path), aside(tmp_path), coordinator.released) == ([], [], ["t_1"])


def test_a_refusal_that_no_coordinator_gives_is_doubted_and_then_the_update_is_set_aside(tmp_path: Path) -> None:
    """A hotspot, or a proxy whose server is being replaced, answers 404 with a page."""
    page: Callable[[httpx2.Request], httpx2.Response] = lambda request: httpx2.Response(404, text="<h1>gone</h1>")  # noqa: E731
    coordinator = FakeCoordinator(faults={"PUT update": [page, page]})
    assert me_at(coordinator, tmp_path / "a").run(max_tasks=1) == 1
    coordinator = FakeCoordinator(faults={"PUT update": [page, page, page]})
    unlucky = me_at(coordinator, tmp_path / "b")
    assert unlucky.run(max_tasks=1) == 0
    assert (waiting(tmp_path / "b"), aside(tmp_path / "b")) == ([], ["t_1"])
    assert unlucky.watcher.names()[-3:] == ["update_set_aside", "task_released", "update_refused"]


@pytest.mark.parametrize("fault", [answering(401, "authentication_failed"), answering(403, "client_banned")])
def test_what_only_the_owner_can_mend_ends_the_client_and_keeps_the_update(
    tmp_path: Path, fault: Callable[[httpx2.Request], httpx2.Response]
) -> None:
    coordinator = FakeCoordinator(faults={"PUT update": [fault]})
    first = me_at(coordinator, tmp_path)
    with pytest.raises(ClientMustAct):
        first.run()
    first.client.close()
    assert (waiting(tmp_path), coordinator.released) == (["t_1"], [])
    assert me_at(coordinator, tmp_path).run(until_finished=True) == 1


@pytest.mark.parametrize(
    "fault",
    [
        unreachable,
        answering(503, "storage_busy"),
        answering(500, "internal_error"),
        answering(500, "blob_corrupt"),
        answering(507, "disk_full"),
        answering(429, "rate_limited", **{"Retry-After": "3600"}),
        answering(400, "digest_mismatch"),
        lambda request: problem(408, "body_too_slow"),
        lambda request: httpx2.Response(502, text="bad gateway"),
        lambda request: httpx2.Response(200, text="welcome to our hotel"),
    ],
)
def test_whatever_is_not_a_refusal_is_waited_out_even_beyond_the_lease(
    tmp_path: Path, fault: Callable[[httpx2.Request], httpx2.Response]
) -> None:
    """Only the coordinator can say that finished work is useless."""
    coordinator = FakeCoordinator(faults={"PUT update": [fault] * 12}, seconds_left=30.0)
    volunteer = me_at(coordinator, tmp_path)
    began = volunteer.clock.now()
    assert volunteer.run(max_tasks=1) == 1
    assert volunteer.clock.now() - began > 60
    assert updates_sent(volunteer) == ["t_1"]


def test_after_the_day_s_last_update_a_waiting_one_is_dropped_and_its_lease_given_back(tmp_path: Path) -> None:
    """Another client of this machine used the day up between the training and the restart."""
    coordinator = FakeCoordinator(tasks_to_give=2)
    first = me_at(coordinator, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fed_compute.client.history.DayBook.spend", _broken)
        with pytest.raises(StateUnusable):
            first.run()
    first.client.close()
    assert waiting(tmp_path) == ["t_1"]
    other = volunteer_at(FakeCoordinator(), tmp_path, client_name="other", data=blobs(90))
    assert other.run(max_tasks=1) == 1
    second = me_at(coordinator, tmp_path, client_max_rounds_per_day=1)
    second.stop_at("resting")
    assert second.run() == 0
    assert second.watcher.all("policy_refused")[0]["limit"] == "CLIENT_MAX_ROUNDS_PER_DAY"
    assert coordinator.released == ["t_1"]


def _broken(book: object, day: object, *, limit: object) -> bool:
    raise StateUnusable("as the test wants")


def test_what_a_lossy_encoding_left_out_survives_with_the_update(tmp_path: Path) -> None:
    """The sum of all updates must be what a client that was never stopped sends."""
    recipe = recipe_for(encoding="topk")
    calm = FakeCoordinator(recipe=recipe, tasks_to_give=3)
    assert me_at(calm, tmp_path / "calm").run(until_finished=True) == 3
    stormy = FakeCoordinator(recipe=recipe, tasks_to_give=3)
    for sent_before in (0, 1, 1):
        stopped_while_sending(stormy, tmp_path / "stormy", sent_before=sent_before)
    assert me_at(stormy, tmp_path / "stormy").run(until_finished=True) == 1
    assert stormy.vector.tobytes() == calm.vector.tobytes()


def test_a_long_update_goes_in_pieces_and_the_next_run_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(cuts=[None, 321])
    small: dict[str, Any] = {"client_upload_piece_megabytes": 0.005}
    first = me_at(coordinator, tmp_path, **small)
    first.stop_at("waiting")
    coordinator.faults["HEAD update"] = [None, unreachable]
    assert first.run() == 0
    first.client.close()
    before = len(coordinator.requests)
    assert me_at(coordinator, tmp_path, **small).run(until_finished=True) == 1
    offsets = [int(r.headers["upload-offset"]) for r in coordinator.requests[before:] if r.method == "PATCH"]
    assert offsets[0] == 5321


def test_a_task_whose_update_would_not_fit_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    coordinator = FakeCoordinator()
    volunteer = me_at(coordinator, tmp_path, client_spool_megabytes=0.01)
    volunteer.stop_at("policy_refused")
    assert volunteer.run() == 0
    assert volunteer.watcher.all("policy_refused")[0]["limit"] == "CLIENT_SPOOL_MEGABYTES"
    assert (coordinator.calls["GET model"], coordinator.released) == (0, ["t_1"])


def test_two_clients_of_one_machine_do_not_send_each_other_s_updates(tmp_path: Path) -> None:
    coordinator = FakeCoordinator()
    stopped_while_sending(coordinator, tmp_path)
    other = volunteer_at(FakeCoordinator(tasks_to_give=0), tmp_path, client_name="other")
    assert other.run(until_finished=True) == 0
    assert "update_found" not in other.watcher.names()
    assert {own.slot.partition("-")[2] for own in own_folders(tmp_path)} == {"me", "other"}


def test_no_checkpoint_outlives_its_lease(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(tasks_to_give=3, recipe=recipe_for(training={"local_epochs": 3}))
    volunteer = me_at(coordinator, tmp_path, client_checkpoint_seconds=0)
    seen: list[bool] = []

    def look(name: str, fields: dict[str, Any]) -> None:
        checkpoint = OwnFolder(next(tmp_path.glob("clients/*"))).checkpoint
        if name == "progress":
            volunteer.clock.advance(1)
            seen.append(checkpoint.exists())
        elif name in ("sending", "task_released"):
            assert not checkpoint.exists(), name
        if name == "progress" and coordinator.given == 2 and fields["fraction"] > 0.5:
            coordinator.abort_reason = "as the test wants"
            raise StateUnusable("as the test wants")

    volunteer.watcher.on = look
    with pytest.raises(StateUnusable):
        volunteer.run()
    assert any(seen)
    assert coordinator.released == ["t_2"]
