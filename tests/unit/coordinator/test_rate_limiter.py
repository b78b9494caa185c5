"""Rate limits as the coordinator applies them; what a limiter promises on each store is a contract of its own."""

import dataclasses

import pytest

from fed_compute.clock import ManualClock
from fed_compute.coordinator.rate_limiter import Limit, Quotas, RateLimiter
from fed_compute.coordinator.settings import load_settings
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


def test_time_gives_an_allowance_back() -> None:
    clock = ManualClock()
    limits = RateLimiter(Quotas(requests_per_minute=2), clock=clock)
    for _ in range(2):
        limits.request("anna")
    with pytest.raises(RateLimited) as refusal:
        limits.request("anna")
    clock.advance(refusal.value.retry_after_seconds + 0.001)
    limits.request("anna")


def test_bytes_are_counted_as_many_as_there_are() -> None:
    limits = RateLimiter(Quotas(upload_mib_per_hour=1))
    limits.charge(Limit.UPLOADS, "anna", cost=(1 << 20) - 10)
    limits.charge(Limit.UPLOADS, "anna", cost=10)
    with pytest.raises(RateLimited, match="1048576 bytes sent per hour") as refusal:
        limits.charge(Limit.UPLOADS, "anna", cost=1)
    assert refusal.value.unit == "content-bytes"


def test_a_body_larger_than_the_whole_allowance_passes_when_nothing_else_did() -> None:
    """Else a model could be served whose updates nobody may send."""
    limits = RateLimiter(Quotas(upload_mib_per_hour=1))
    limits.charge(Limit.UPLOADS, "anna", cost=5 << 20)
    with pytest.raises(RateLimited):
        limits.charge(Limit.UPLOADS, "anna", cost=1)


def test_what_is_left_can_be_looked_at_without_being_used() -> None:
    clock = ManualClock()
    limits = RateLimiter(Quotas(requests_per_minute=3), clock=clock)
    assert limits.left(Limit.REQUESTS, "anna").remaining == 3
    limits.request("anna")
    clock.advance(20)
    for _ in range(2):
        allowance = limits.left(Limit.REQUESTS, "anna")
        assert (allowance.remaining, allowance.seconds, allowance.policy.quota) == (2, 40.0, 3)


def test_one_more_can_be_required_to_be_left() -> None:
    limits = RateLimiter(Quotas(failed_authentications_per_minute=2))
    for _ in range(2):
        limits.require_left(Limit.FAILURES, "192.0.2.0/24")
        limits.charge(Limit.FAILURES, "192.0.2.0/24")
    with pytest.raises(RateLimited, match="2 failed authentications from one network per minute"):
        limits.require_left(Limit.FAILURES, "192.0.2.0/24")
    limits.require_left(Limit.FAILURES, "198.51.100.0/24")


def test_every_limit_is_a_setting_of_its_own() -> None:
    """A limit that nobody can change is a trap for some operator."""
    settings = load_settings(**{field.name: 7 for field in dataclasses.fields(Quotas)})
    assert set(settings.quotas().policies()) == set(Limit)
    assert {policy.quota for policy in settings.quotas().policies().values()} == {7, 7 << 20}


def test_refusals_are_counted_by_limit_and_never_by_who_was_refused() -> None:
    limits = RateLimiter(Quotas(requests_per_minute=1, updates_per_minute=1))
    for name in ("anna", "bob"):
        limits.request(name)
        with pytest.raises(RateLimited):
            limits.request(name)
    assert limits.refusals.read() == {Limit.REQUESTS: 2}
