"""Heartbeats from the background."""

import threading
import time
from collections.abc import Callable

import pytest

from fed_compute.client.api import CoordinatorApi
from fed_compute.client.lease import LeaseKeeper, TaskAborted
from fed_compute.clock import ManualClock
from fed_compute.errors import ClientMustAct, TaskOver
from tests.unit.client.fake_coordinator import FakeCoordinator, answering, unreachable
from tests.unit.client.recipes import task_for


def lease_at(coordinator: FakeCoordinator, clock: ManualClock, *, heartbeat_seconds: float = 0.0) -> LeaseKeeper:
    coordinator.keys["me"] = "sk_me_secret"
    api = CoordinatorApi("http://coordinator.test", api_key="sk_me_secret", transport=coordinator.transport())
    return LeaseKeeper(api, task_for(coordinator.recipe, heartbeat_seconds=heartbeat_seconds), clock)


def wait_until(holds: Callable[[], bool]) -> None:
    """Give a background thread as long as the test's own time limit allows."""
    while not holds():
        time.sleep(0.005)


def raised_by(lease: LeaseKeeper) -> Callable[[], bool]:
    def holds() -> bool:
        try:
            lease.check()
        except (TaskAborted, TaskOver, ClientMustAct):
            return True
        return False

    return holds


def test_heartbeats_tell_the_progress_and_renew_the_lease() -> None:
    coordinator, clock = FakeCoordinator(seconds_left=500.0), ManualClock()
    lease = lease_at(coordinator, clock)
    assert lease.seconds_left() == 60
    with lease:
        lease.report(0.25)
        wait_until(lambda: 0.25 in coordinator.heartbeats)
        wait_until(lambda: lease.seconds_left() == 500)
    clock.advance(600)
    assert lease.seconds_left() == -100


def test_a_lost_heartbeat_is_made_up_by_the_next() -> None:
    coordinator = FakeCoordinator(faults={"POST heartbeat": [unreachable, answering(503, "storage_busy")]})
    with lease_at(coordinator, ManualClock()) as lease:
        wait_until(lambda: bool(coordinator.heartbeats))
        lease.check()


def test_an_abort_reaches_whoever_works_with_its_reason() -> None:
    """Work that nobody wants should not cost a volunteer more electricity."""
    coordinator = FakeCoordinator(abort_reason="the round is closed")
    with lease_at(coordinator, ManualClock()) as lease:
        wait_until(raised_by(lease))
        with pytest.raises(TaskAborted, match="the round is closed"):
            lease.report(0.5)


def test_the_reason_of_an_abort_cannot_steer_a_terminal() -> None:
    coordinator = FakeCoordinator(abort_reason="\x1b[2Jgone" * 100)
    with lease_at(coordinator, ManualClock()) as lease:
        wait_until(raised_by(lease))
        with pytest.raises(TaskAborted) as caught:
            lease.check()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) == 200


@pytest.mark.parametrize(("status", "code", "kind"), [(410, "lease_expired", TaskOver), (401, "x", ClientMustAct)])
def test_a_heartbeat_answered_with_an_error_that_stays_is_raised_too(
    status: int, code: str, kind: type[Exception]
) -> None:
    coordinator = FakeCoordinator(faults={"POST heartbeat": [answering(status, code)] * 99})
    with lease_at(coordinator, ManualClock()) as lease:
        wait_until(raised_by(lease))
        with pytest.raises(kind):
            lease.check()
    assert coordinator.calls["POST heartbeat"] == 1


def test_the_thread_ends_with_the_block_however_it_ends() -> None:
    coordinator = FakeCoordinator()
    before = threading.active_count()
    with pytest.raises(KeyError), lease_at(coordinator, ManualClock(), heartbeat_seconds=3600):
        raise KeyError
    assert threading.active_count() == before
    assert coordinator.heartbeats == []
