"""The daily quota: few tasks for bad machines, ever more for good ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.rounds.quota import DAY_SECONDS, Quota, QuotaRules, wait_seconds

RULES = QuotaRules(newcomer=4, ceiling=100)
NOON = 20_000 * DAY_SECONDS + DAY_SECONDS / 2


def test_each_valid_result_doubles_the_quota_up_to_the_ceiling() -> None:
    quota, seen = Quota(RULES.newcomer), []
    for _ in range(6):
        quota = quota.after_valid(RULES)
        seen.append(quota.per_day)
    assert seen == [8, 16, 32, 64, 100, 100]


def test_each_bad_result_takes_one_off_and_nobody_falls_below_one() -> None:
    quota, seen = Quota(RULES.newcomer), []
    for _ in range(5):
        quota = quota.after_bad()
        seen.append(quota.per_day)
    assert seen == [3, 2, 1, 1, 1]


def test_a_failed_audit_leaves_one_task_a_day() -> None:
    assert Quota(100).after_failed_audit().per_day == 1


def test_whoever_used_up_the_day_waits_for_the_next_one() -> None:
    quota = Quota(2)
    for hour in range(2):
        assert wait_seconds(quota, now=NOON + hour * 3600) == 0
        quota = quota.taken(at=NOON + hour * 3600)
    assert wait_seconds(quota, now=NOON + 7200) == DAY_SECONDS / 2 - 7200
    assert wait_seconds(quota, now=NOON + DAY_SECONDS / 2) == 0
    assert quota.used_today(now=NOON) == 2
    assert quota.used_today(now=NOON + DAY_SECONDS) == 0


def test_a_new_day_begins_to_count_anew() -> None:
    quota = Quota(2).taken(at=NOON).taken(at=NOON).taken(at=NOON + DAY_SECONDS)
    assert (quota.used, wait_seconds(quota, now=NOON + DAY_SECONDS)) == (1, 0)


def test_a_client_of_whom_nothing_is_recorded_waits_for_nothing() -> None:
    assert wait_seconds(None, now=NOON) == 0


@given(st.lists(st.sampled_from(["valid", "bad", "failed"]), max_size=40), st.integers(1, 50), st.floats(0, 2e9))
def test_whatever_happens_there_is_one_task_on_every_new_day(events: list[str], newcomer: int, now: float) -> None:
    rules = QuotaRules(newcomer=newcomer, ceiling=50)
    quota = Quota(rules.newcomer)
    for event in events:
        acts = {"valid": quota.after_valid(rules), "bad": quota.after_bad(), "failed": quota.after_failed_audit()}
        quota = acts[event].taken(at=now)
    assert 1 <= quota.per_day <= rules.ceiling
    assert 0 <= wait_seconds(quota, now=now) <= DAY_SECONDS
    assert wait_seconds(quota, now=now + DAY_SECONDS + 1) == 0


@pytest.mark.parametrize("newcomer", [4, 20])
def test_an_honest_newcomer_never_meets_its_quota(newcomer: int) -> None:
    quota = Quota(newcomer)
    for _ in range(1000):
        assert wait_seconds(quota, now=NOON) == 0
        quota = quota.taken(at=NOON).after_valid(QuotaRules(newcomer=newcomer, ceiling=100_000))


def test_a_machine_that_never_reports_takes_half_its_first_quota_and_no_more_that_day() -> None:
    quota, taken = Quota(20), 0
    while wait_seconds(quota, now=NOON) == 0:
        quota, taken = quota.taken(at=NOON).after_bad(), taken + 1
    assert taken == 10
