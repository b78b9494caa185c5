"""Rate limits as the coordinator applies them; what a limiter promises on each store is a contract of its own."""

import pytest

from fed_compute.coordinator.rate_limiter import Quotas, RateLimiter
from fed_compute.errors import RateLimited, UpdateRefused
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import body_for


@pytest.mark.parametrize(
    ("kind", "limit", "says"),
    [("request", 3, "3 requests per minute"), ("update", 2, "2 updates per minute"), ("registration", 1, "1 reg")],
)
def test_the_settings_are_the_limits(open_stand: OpenStand, kind: str, limit: int, says: str) -> None:
    stand = open_stand(requests_per_minute=3, updates_per_minute=2, registrations_per_hour=1)
    call = getattr(stand.core.rate_limiter, kind)
    for _ in range(limit):
        call("anna")
    with pytest.raises(RateLimited, match=says):
        call("anna")
    call("bob")


@pytest.mark.parametrize(("kind", "window"), [("request", 60), ("update", 60), ("registration", 3600)])
def test_whoever_is_over_the_limit_is_told_how_long_to_wait(kind: str, window: float) -> None:
    limits = RateLimiter(Quotas(requests_per_minute=1, updates_per_minute=1, registrations_per_hour=1))
    getattr(limits, kind)("anna")
    with pytest.raises(RateLimited) as refusal:
        getattr(limits, kind)("anna")
    assert window / 2 < refusal.value.retry_after_seconds <= window


def test_asking_while_over_the_limit_does_not_lengthen_the_wait() -> None:
    limits = RateLimiter(Quotas(requests_per_minute=1, updates_per_minute=1, registrations_per_hour=1))
    limits.request("anna")
    waits = []
    for _ in range(20):
        with pytest.raises(RateLimited) as refusal:
            limits.request("anna")
        waits.append(refusal.value.retry_after_seconds)
    assert waits == sorted(waits, reverse=True)


def test_refused_updates_count_too(open_stand: OpenStand) -> None:
    """Looking into a body costs the coordinator the same, whatever is in it."""
    stand = open_stand(updates_per_minute=2)
    stand.create()
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    for _ in range(2):
        with pytest.raises(UpdateRefused):
            stand.send("anna", assignment, b"rubbish")
    with pytest.raises(RateLimited):
        stand.send("anna", assignment, body_for(assignment))
    assert stand.updates() == []


def test_a_client_over_its_limit_does_not_slow_another_one(open_stand: OpenStand) -> None:
    stand = open_stand(updates_per_minute=1)
    stand.create()
    stand.join("anna", "bob")
    stand.report("anna")
    stand.report("bob")
    assert [update.client_id for update in stand.updates()] == ["anna", "bob"]
