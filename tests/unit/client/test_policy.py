"""What the owner's limits allow: a table of cases, and what holds for every case."""

import re
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.hours import Hours
from fed_compute.client.policy import (
    Allowed,
    Asked,
    History,
    Moment,
    Policy,
    Refused,
    asked_of,
    decide,
    decide_moment,
    decide_to_go_on,
)
from fed_compute.client.recipes import max_spooled_bytes, schema_of
from tests.unit.client.recipes import recipe_for, task_for

NOON = Moment(datetime(2026, 3, 2, 12))
TODAY = NOON.local.date()
TASK = Asked(
    kind="train",
    job="digits",
    model="simple_mlp",
    model_digest="a" * 64,
    schema_digest="b" * 64,
    num_parameters=1_000_000,
    local_epochs=4,
    batch_size=32,
    own_samples=100,
    min_updates=5,
    auditors=3,
    spooled_bytes=9_000_000,
)
MEASURE, AUDIT = replace(TASK, kind="evaluate"), replace(TASK, kind="audit")


def refusal(task: Asked = TASK, *, history: History | None = None, now: Moment = NOON, **limits: Any) -> Refused | None:
    decision = decide(task, Policy(**limits), history or History(), now)
    return decision if isinstance(decision, Refused) else None


# The limit, a value that the task just keeps, one that it just breaks, and words of the refusal.
LIMITS = [
    ("jobs", frozenset({"digits", "x"}), frozenset({"x", "y"}), "the job is digits, CLIENT_JOBS allows x, y"),
    ("models", frozenset({"simple_mlp"}), frozenset({"linear"}), "the model is 'simple_mlp'"),
    ("pinned_digests", frozenset({"a" * 64}), frozenset({"c" * 64}), "schema digest bbbbbbbbbbbbbbbb"),
    ("pinned_digests", frozenset({"b" * 64}), frozenset({"c" * 64}), "version digest aaaaaaaaaaaaaaaa"),
    ("min_cohort", 5, 6, "may average as few as 5 updates, CLIENT_MIN_COHORT wants 6"),
    ("max_auditors", 3, 2, "may show an update to 3 other clients, CLIENT_MAX_AUDITORS allows 2"),
    ("min_samples", 100, 101, "only 100 own samples would be used, CLIENT_MIN_SAMPLES wants 101"),
    ("min_steps", 16, 17, "16 training step(s), CLIENT_MIN_STEPS wants 17"),
    ("max_local_epochs", 4, 3, "4 local epochs are asked for, CLIENT_MAX_LOCAL_EPOCHS allows 3"),
    ("max_samples", 400, 399, "400 samples times epochs are asked for, CLIENT_MAX_SAMPLES allows 399"),
    ("max_model_megabytes", 4.0, 3.99, "the model has 4 MB, CLIENT_MAX_MODEL_MEGABYTES allows 3.99"),
    ("spool_megabytes", 9.0, 8.99, "its update may take 9 MB on the disk, CLIENT_SPOOL_MEGABYTES allows 8.99"),
]


@pytest.mark.parametrize(("limit", "kept", "broken", "words"), LIMITS)
def test_each_limit_holds_to_the_last_unit_and_says_what_was_found(
    limit: str, kept: object, broken: object, words: str
) -> None:
    assert refusal(**{limit: kept}) is None
    found = refusal(**{limit: broken})
    assert found is not None
    assert found.setting == f"CLIENT_{limit.upper()}"
    assert words in found.reason
    assert found.wait_seconds is None, "waiting cannot change a job"


def test_without_limits_everything_is_allowed() -> None:
    assert decide(TASK, Policy(), History(TODAY, 10**6), replace(NOON, on_battery=True)) == Allowed()


def test_a_coordinator_that_does_not_say_its_cohort_is_not_trusted_to_have_one() -> None:
    silent = replace(TASK, min_updates=None)
    assert refusal(silent) is None
    found = refusal(silent, min_cohort=1)
    assert found is not None
    assert "does not say" in found.reason


def test_a_coordinator_that_does_not_say_who_is_shown_an_update_is_not_trusted_to_show_nobody() -> None:
    silent = replace(TASK, auditors=None)
    assert refusal(silent) is None
    found = refusal(silent, max_auditors=15)
    assert found is not None
    assert "does not say" in found.reason


def test_today_s_number_counts_today_only_and_ends_at_midnight() -> None:
    full = History(TODAY, 3)
    found = refusal(history=full, max_rounds_per_day=3)
    assert found is not None
    assert (found.setting, found.wait_seconds) == ("CLIENT_MAX_ROUNDS_PER_DAY", 12 * 3600)
    assert refusal(history=full, max_rounds_per_day=4) is None
    assert refusal(history=History(TODAY - timedelta(days=1), 3), max_rounds_per_day=3) is None
    assert refusal(history=History(TODAY + timedelta(days=9), 3), max_rounds_per_day=3) is None, "the clock was set"


@pytest.mark.parametrize(("battery", "refused"), [(True, True), (False, False)])
def test_on_battery_nothing_is_done_if_the_owner_says_so(battery: bool, refused: bool) -> None:
    now = replace(NOON, on_battery=battery)
    assert (refusal(now=now, ac_power_only=True) is not None) == refused
    assert refusal(now=now) is None


def test_outside_the_hours_the_refusal_says_when_it_goes_on() -> None:
    found = refusal(hours=Hours(22 * 60, 6 * 60))
    assert found is not None
    assert found.reason == "it is outside CLIENT_HOURS=22-6; going on at 22:00"
    assert found.wait_seconds == 10 * 3600


@pytest.mark.parametrize(
    "limits",
    [{"min_cohort": 6}, {"max_auditors": 0}, {"max_local_epochs": 1}, {"max_samples": 1}, {"min_steps": 99}],
)
def test_limits_on_training_do_not_forbid_to_measure(limits: dict[str, int]) -> None:
    assert refusal(MEASURE, **limits) is None
    assert refusal(AUDIT, **limits) is None
    assert refusal(**limits) is not None


@pytest.mark.parametrize(
    ("task", "limit", "setting"), [(MEASURE, "evaluate", "CLIENT_EVALUATE"), (AUDIT, "audits", "CLIENT_AUDITS")]
)
def test_evaluations_and_audits_can_each_be_forbidden_alone(task: Asked, limit: str, setting: str) -> None:
    found = refusal(task, **{limit: False})
    assert found is not None
    assert found.setting == setting
    assert [refusal(other, **{limit: False}) for other in (TASK, MEASURE, AUDIT) if other != task] == [None, None]


def test_a_model_that_is_too_large_is_not_audited_either() -> None:
    """Somebody's update of it is as large again."""
    found = refusal(AUDIT, max_model_megabytes=3.99)
    assert found is not None
    assert found.setting == "CLIENT_MAX_MODEL_MEGABYTES"


@pytest.mark.parametrize(
    ("limits", "setting", "reason"),
    [
        ({"share_sample_count": False}, "CLIENT_SHARE_SAMPLE_COUNT", "which tells the number of samples.*hides it"),
        ({"max_sample_count": 99}, "CLIENT_MAX_SAMPLE_COUNT", "here 100, CLIENT_MAX_SAMPLE_COUNT tells at most 99"),
    ],
)
def test_who_does_not_tell_its_samples_does_no_job_that_counts_steps(
    limits: dict[str, Any], setting: str, reason: str
) -> None:
    found = refusal(replace(TASK, report_steps=True), **limits)
    assert found is not None
    assert found.setting == setting
    assert re.search(reason, found.reason)
    assert refusal(TASK, **limits) is None
    assert refusal(replace(MEASURE, report_steps=True), **limits) is None
    assert refusal(replace(TASK, report_steps=True), max_sample_count=100) is None


def test_what_the_job_will_always_break_is_said_before_what_passes() -> None:
    """Else a client would wait for the night to learn that it will never work on this job."""
    found = refusal(hours=Hours(22 * 60, 6 * 60), jobs=frozenset({"x"}))
    assert found is not None
    assert found.setting == "CLIENT_JOBS"


def test_a_training_goes_on_until_its_seconds_its_hours_or_its_power_end() -> None:
    policy = Policy(max_training_seconds=60, hours=Hours(12 * 60, 13 * 60), ac_power_only=True)
    assert decide_to_go_on(policy, NOON, seconds_trained=60) == Allowed()
    too_long = decide_to_go_on(policy, NOON, seconds_trained=60.5)
    assert isinstance(too_long, Refused)
    assert (too_long.setting, too_long.wait_seconds) == ("CLIENT_MAX_TRAINING_SECONDS", None)
    for moment in (Moment(datetime(2026, 3, 2, 13)), replace(NOON, on_battery=True)):
        assert isinstance(decide_to_go_on(policy, moment, seconds_trained=1), Refused)


def test_what_is_asked_is_read_from_what_will_be_worked_with() -> None:
    """Not from what the coordinator says about it: the parameters, not a size; the recipe's epochs, not a sentence."""
    recipe = recipe_for(training={"local_epochs": 3, "batch_size": 16, "report_steps": True})
    asked = asked_of(task_for(recipe, min_updates=7, auditors=2), own_samples=80)
    assert asked == Asked(
        kind="train", job="default", model="simple_mlp", model_digest="0" * 64, schema_digest=recipe.schema_digest,
        num_parameters=64 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10, local_epochs=3, batch_size=16, own_samples=80,
        min_updates=7, auditors=2,
        spooled_bytes=max_spooled_bytes(recipe, num_parameters=schema_of(recipe).num_parameters),
        report_steps=True,
    )  # fmt: skip


COUNTS = st.integers(1, 10**9)
NAMES = st.sampled_from(["a", "b", "c"])
TASKS = st.builds(
    Asked, kind=st.sampled_from(["train", "evaluate", "audit"]), job=NAMES, model=NAMES, model_digest=NAMES,
    schema_digest=NAMES, num_parameters=COUNTS, local_epochs=COUNTS, batch_size=COUNTS, own_samples=COUNTS,
    min_updates=st.none() | COUNTS, auditors=st.none() | st.integers(0, 15), spooled_bytes=COUNTS,
    report_steps=st.booleans(),
)  # fmt: skip
NAME_SETS = st.frozensets(NAMES)
POLICIES = st.builds(
    Policy, jobs=NAME_SETS, models=NAME_SETS, pinned_digests=NAME_SETS, min_cohort=st.none() | COUNTS,
    max_auditors=st.none() | st.integers(0, 15),
    min_samples=st.none() | COUNTS, min_steps=st.none() | COUNTS, max_local_epochs=st.none() | COUNTS,
    max_samples=st.none() | st.integers(1, 10**18), max_model_megabytes=st.none() | st.floats(1e-6, 1e9),
    spool_megabytes=st.none() | st.floats(1e-6, 1e9),
    max_training_seconds=st.none() | st.floats(1, 1e6), max_rounds_per_day=st.none() | st.integers(1, 5),
    hours=st.none() | st.builds(Hours, st.integers(0, 719), st.integers(720, 1440)), ac_power_only=st.booleans(),
    evaluate=st.booleans(), audits=st.booleans(), share_sample_count=st.booleans(), max_sample_count=COUNTS,
)  # fmt: skip
MOMENTS = st.builds(Moment, st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 30)), st.booleans())
HISTORIES = st.builds(History, st.none() | st.dates(date(2026, 1, 1), date(2026, 12, 30)), st.integers(0, 6))


@given(TASKS, POLICIES, HISTORIES, MOMENTS)
def test_what_is_allowed_breaks_no_limit(task: Asked, policy: Policy, history: History, now: Moment) -> None:
    """The same limits once more, written as one plain conjunction."""
    training = task.kind == "train"
    keeps = [
        not policy.jobs or task.job in policy.jobs,
        not policy.models or task.model in policy.models,
        not policy.pinned_digests or bool(policy.pinned_digests & {task.model_digest, task.schema_digest}),
        policy.spool_megabytes is None or task.kind != "train" or task.spooled_bytes / 1e6 <= policy.spool_megabytes,
        policy.max_model_megabytes is None or task.num_parameters * 4 / 1e6 <= policy.max_model_megabytes,
        policy.min_samples is None or task.own_samples >= policy.min_samples,
        policy.min_cohort is None or not training or (task.min_updates or 0) >= policy.min_cohort,
        policy.max_auditors is None
        or not training
        or (task.auditors is not None and task.auditors <= policy.max_auditors),
        policy.max_local_epochs is None or not training or task.local_epochs <= policy.max_local_epochs,
        policy.max_samples is None or not training or task.local_epochs * task.own_samples <= policy.max_samples,
        policy.min_steps is None
        or not training
        or task.local_epochs * ((task.own_samples + task.batch_size - 1) // task.batch_size) >= policy.min_steps,
        policy.evaluate or task.kind != "evaluate",
        policy.audits or task.kind != "audit",
        policy.hours is None or policy.hours.contains(now.local),
        not (policy.ac_power_only and now.on_battery),
        policy.max_rounds_per_day is None
        or history.day != now.local.date()
        or history.updates < policy.max_rounds_per_day,
    ]
    assert (decide(task, policy, history, now) == Allowed()) == all(keeps)


@given(TASKS, POLICIES, HISTORIES, MOMENTS)
def test_lifting_limits_never_forbids_anything(task: Asked, policy: Policy, history: History, now: Moment) -> None:
    if decide(task, policy, history, now) != Allowed():
        return
    for limit in fields(Policy):
        lifted = replace(policy, **{limit.name: limit.default})
        assert decide(task, lifted, history, now) == Allowed(), limit.name


@given(POLICIES, HISTORIES, MOMENTS)
def test_waiting_as_long_as_told_lifts_what_was_in_the_way(policy: Policy, history: History, now: Moment) -> None:
    """Waiting in steps, as the client does, ends within two days: the hours and the day may follow one another."""
    policy = replace(policy, ac_power_only=False)
    moment = now
    for _ in range(3):
        decision = decide_moment(policy, history, moment)
        if decision == Allowed():
            return
        assert isinstance(decision, Refused)
        assert decision.wait_seconds is not None
        assert 0 < decision.wait_seconds <= 24 * 3600
        moment = replace(moment, local=moment.local + timedelta(seconds=decision.wait_seconds))
    raise AssertionError(f"still refused at {moment}: {decision}")


@given(TASKS, POLICIES, HISTORIES, MOMENTS)
def test_every_refusal_names_its_setting_in_one_line(
    task: Asked, policy: Policy, history: History, now: Moment
) -> None:
    decision = decide(task, policy, history, now)
    if isinstance(decision, Refused):
        assert decision.setting in decision.reason
        assert decision.reason.isprintable()
        assert len(decision.reason) < 250
