"""Settings: read once, checked once; the original request's variables under their own names."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fed_compute.coordinator.settings import CoordinatorSettings, load_settings
from fed_compute.errors import SettingInvalid
from fed_compute.rounds.records import RoundMode
from fed_compute.rounds.rewards import RewardRules, Work, rewards_for
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import tiny_job

SEED_VARIABLES = {
    "ENABLE_ASYNC_ROUNDS": ("enable_async_rounds", False, "true", True),
    "ASYNC_MIN_UPDATES": ("async_min_updates", 2, "7", 7),
    "ASYNC_MAX_DURATION": ("async_max_duration", 300.0, "12.5", 12.5),
    "INCENTIVE_BASE_REWARD": ("incentive_base_reward", 10.0, "2.5", 2.5),
    "INCENTIVE_SPEED_THRESHOLD": ("incentive_speed_threshold", 30.0, "5", 5.0),
    "INCENTIVE_CONSISTENCY_THRESHOLD": ("incentive_consistency_threshold", 5, "3", 3),
}


@pytest.mark.parametrize("name", SEED_VARIABLES)
def test_a_documented_variable_has_its_documented_default(name: str) -> None:
    field, default, _, _ = SEED_VARIABLES[name]
    assert getattr(load_settings(), field) == default


@pytest.mark.parametrize("prefix", ["", "FED_COMPUTE_"])
@pytest.mark.parametrize("name", SEED_VARIABLES)
def test_a_documented_variable_is_read_under_its_name(monkeypatch: pytest.MonkeyPatch, name: str, prefix: str) -> None:
    field, _, text, value = SEED_VARIABLES[name]
    monkeypatch.setenv(prefix + name, text)
    assert getattr(load_settings(), field) == value


def test_other_settings_are_read_under_the_products_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FED_COMPUTE_PORT", "9001")
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("FED_COMPUTE_DATA_DIR", "/somewhere")
    settings = load_settings()
    assert (settings.port, settings.data_dir) == (9001, Path("/somewhere"))


def test_a_flag_wins_over_the_environment_and_none_means_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FED_COMPUTE_PORT", "9001")
    assert load_settings(port=9002).port == 9002
    assert load_settings(port=None).port == 9001


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FED_COMPUTE_PORT", "70000"),
        ("FED_COMPUTE_PORT", "many"),
        ("FED_COMPUTE_HEARTBEAT_SECONDS", "0"),
        ("FED_COMPUTE_HEARTBEAT_SECONDS", "nan"),
        ("FED_COMPUTE_MAX_UPDATE_NORM", "-1"),
        ("FED_COMPUTE_UPDATES_PER_MINUTE", "0"),
        ("ENABLE_ASYNC_ROUNDS", "perhaps"),
        ("ASYNC_MIN_UPDATES", "0"),
        ("ASYNC_MAX_DURATION", "inf"),
        ("ASYNC_MIN_UPDATES", "9999999999"),
        ("INCENTIVE_BASE_REWARD", "-1"),
        ("INCENTIVE_BASE_REWARD", "10001"),
        ("INCENTIVE_BASE_REWARD", "1e300"),
        ("INCENTIVE_BASE_REWARD", "inf"),
        ("INCENTIVE_SPEED_THRESHOLD", "-1"),
        ("INCENTIVE_SPEED_THRESHOLD", "1e300"),
        ("INCENTIVE_CONSISTENCY_THRESHOLD", "0"),
        ("INCENTIVE_CONSISTENCY_THRESHOLD", "99999999999999999999"),
    ],
)
def test_what_cannot_be_understood_stops_the_start_and_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingInvalid, match=rf"(?i){name.removeprefix('FED_COMPUTE_')}.*{text}"):
        load_settings()


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="prot"):
        load_settings(prot=1)


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError):
        load_settings().port = 1  # type: ignore[misc]


def test_the_pepper_never_shows() -> None:
    settings = load_settings(pepper="ab" * 32)
    assert "abab" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in CoordinatorSettings.model_fields.items() if not field.description] == []


def test_a_job_is_served_as_its_file_says_unless_asked_otherwise() -> None:
    spec = tiny_job()
    assert load_settings(async_min_updates=9).applied_to(spec) == spec


def test_the_async_variables_change_the_served_job(monkeypatch: pytest.MonkeyPatch, open_stand: OpenStand) -> None:
    for name, text in (("ENABLE_ASYNC_ROUNDS", "true"), ("ASYNC_MIN_UPDATES", "3"), ("ASYNC_MAX_DURATION", "60")):
        monkeypatch.setenv(name, text)
    stand = open_stand()
    stand.create()
    stand.join("anna", "bob", "carl")
    round_ = stand.round()
    assert (round_.mode, round_.min_updates, round_.deadline_seconds) == (RoundMode.ASYNC, 3, 60)
    for name in ("anna", "bob", "carl"):
        assert stand.round().state != "AGGREGATING"
        stand.report(name)
    stand.work()
    assert stand.versions()[-1].num_updates == 3


def test_the_async_variables_change_the_next_rounds_of_a_job_on_record(open_stand: OpenStand) -> None:
    """An operator may start the coordinator anew with another mode, with the same job file or without one."""
    stand = open_stand(database_url=None)
    job = stand.create()
    stand.restart(enable_async_rounds=True, async_min_updates=2)
    assert stand.create() == job
    stand.join("anna", "bob")
    for name in ("anna", "bob"):
        stand.report(name)
    stand.work()
    assert [round_.mode for round_ in stand.rounds()] == [RoundMode.SYNC, RoundMode.ASYNC]
    assert stand.breaches() == ()


@pytest.mark.parametrize(("wanted", "minimum", "target"), [(10, 2, 10), (2, 5, 5)])
def test_an_async_jobs_target_is_never_below_its_minimum(wanted: int, minimum: int, target: int) -> None:
    settings = load_settings(enable_async_rounds=True, async_min_updates=minimum)
    rounds = settings.applied_to(tiny_job(target_updates=wanted)).rounds
    assert (rounds.min_updates, rounds.target_updates) == (minimum, target)


def test_the_rest_of_the_job_stays_when_it_is_served_asynchronously() -> None:
    spec = tiny_job(total=7)
    served = load_settings(enable_async_rounds=True).applied_to(spec)
    assert served.model_copy(update={"rounds": spec.rounds}) == spec
    assert (served.rounds.total, served.rounds.over_selection) == (7, spec.rounds.over_selection)


def test_the_highest_pay_that_can_be_set_does_not_overflow_the_ledger() -> None:
    """A hundred million updates, each fast, steady and paid the most, on one account and against the mint."""
    rules = load_settings(incentive_base_reward=10_000, incentive_speed_curve=True).reward_rules()
    most = rewards_for(rules, Work(latency_seconds=0.0, deadline_seconds=300.0, streak=1000, dropped_before=False))
    assert len(most) == 3
    assert 10**8 * sum(reward.micro_tokens for reward in most) < 2**63


@pytest.mark.parametrize("values", [{}, {"base": 1.0, "speed": 2.0, "consistency": 3}])
def test_the_incentive_variables_are_the_rules_of_pay(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    wanted = RewardRules()
    if values:
        for name, value in zip(
            ("BASE_REWARD", "SPEED_THRESHOLD", "CONSISTENCY_THRESHOLD"), values.values(), strict=True
        ):
            monkeypatch.setenv(f"INCENTIVE_{name}", str(value))
        wanted = RewardRules(1.0, 2.0, 3)
    assert load_settings().reward_rules() == wanted
