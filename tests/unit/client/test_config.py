"""Settings from the environment."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fed_compute.client.config import ClientSettings, load_settings
from fed_compute.client.disclosure import Disclosure
from fed_compute.client.limits import LimitSettings, disclosure_of, limits_set, policy_of
from fed_compute.client.policy import Policy
from fed_compute.errors import SettingInvalid
from tests.architecture.source import REPOSITORY


def test_the_documented_defaults_hold_in_an_empty_environment() -> None:
    """The documentation promises these values."""
    settings = load_settings()
    assert settings.coordinator_url == "http://localhost:8000"
    assert (settings.client_name, settings.client_api_key) == (None, None)
    assert (settings.max_retries, settings.sleep_between_rounds, settings.retry_delay) == (3, 5.0, 2.0)
    assert settings.client_data == "digits"
    assert (settings.client_dropout_probability, settings.client_speed_factor) == (0.0, 1.0)


def test_the_environment_wins_over_defaults_and_arguments_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "COORDINATOR_URL": "https://train.example.org/",
        "CLIENT_NAME": "lab-pc-7",
        "CLIENT_API_KEY": "sk_ab_secret",
        "MAX_RETRIES": "7",
        "SLEEP_BETWEEN_ROUNDS": "0",
        "RETRY_DELAY": "0.5",
        "CLIENT_STATE_DIR": str(tmp_path),
        "CLIENT_DATA": "",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(client_name="by-flag")
    assert settings.coordinator_url == "https://train.example.org"
    assert settings.client_name == "by-flag"
    assert settings.client_api_key is not None
    assert settings.client_api_key.get_secret_value() == "sk_ab_secret"
    assert (settings.max_retries, settings.sleep_between_rounds, settings.retry_delay) == (7, 0.0, 0.5)
    assert settings.client_state_dir == tmp_path
    assert settings.client_data == "digits"
    assert "sk_ab_secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COORDINATOR_URL", "localhost:8000"),
        ("COORDINATOR_URL", "http://me:secret@host"),
        ("COORDINATOR_URL", "http://host:99999"),
        ("COORDINATOR_URL", "http://ho st"),
        ("COORDINATOR_URL", "http://[::1"),
        ("COORDINATOR_URL", "http://"),
        ("COORDINATOR_URL", "ftp://host"),
        ("CLIENT_NAME", "a name with spaces"),
        ("MAX_RETRIES", "-1"),
        ("MAX_RETRIES", "many"),
        ("RETRY_DELAY", "nan"),
        ("SLEEP_BETWEEN_ROUNDS", "-0.1"),
        ("CLIENT_DROPOUT_PROBABILITY", "1.1"),
        ("CLIENT_SPEED_FACTOR", "0.5"),
        ("CLIENT_DEVICE", "gpu"),
        ("CLIENT_THREADS", "0"),
        ("CLIENT_JOBS", "digits,No Such"),
        ("CLIENT_PINNED_DIGESTS", "abc"),
        ("CLIENT_MIN_COHORT", "0"),
        ("CLIENT_MIN_SAMPLES", "many"),
        ("CLIENT_MIN_STEPS", "0"),
        ("CLIENT_MAX_LOCAL_EPOCHS", "1001"),
        ("CLIENT_MAX_SAMPLES", "-1"),
        ("CLIENT_MAX_MODEL_MEGABYTES", "inf"),
        ("CLIENT_MAX_TRAINING_SECONDS", "0"),
        ("CLIENT_MAX_ROUNDS_PER_DAY", "0"),
        ("CLIENT_HOURS", "25-26"),
        ("CLIENT_AC_POWER_ONLY", "perhaps"),
        ("CLIENT_EVALUATE", "perhaps"),
        ("CLIENT_MAX_UPDATE_NORM", "nan"),
        ("CLIENT_SHARE_SAMPLE_COUNT", "some"),
        ("CLIENT_MAX_SAMPLE_COUNT", "10000001"),
        ("CLIENT_SHARE_LOSS", "yes"),
        ("CLIENT_SHARE_SECONDS", "no"),
        ("CLIENT_SHARE_MACHINE", "true"),
        ("CLIENT_KEEP_UPDATES", "-1"),
        ("CLIENT_SENT_LOG_MEGABYTES", "0"),
    ],
)
def test_an_unusable_value_names_the_variable_what_was_found_and_what_was_wanted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingInvalid) as caught:
        load_settings()
    description = ClientSettings.model_fields[name.lower()].description
    assert description is not None
    for part in (name, value, description):
        assert part in caught.value.message


def test_limits_are_read_as_an_owner_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "CLIENT_JOBS": " digits, mnist ,",
        "CLIENT_PINNED_DIGESTS": "AB" * 32,
        "CLIENT_HOURS": "22-6:30",
        "CLIENT_MIN_COHORT": "10",
        "CLIENT_SHARE_LOSS": "hidden",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(client_models="linear")
    policy = policy_of(settings)
    assert policy.jobs == {"digits", "mnist"}
    assert policy.models == {"linear"}
    assert policy.pinned_digests == {"ab" * 32}
    assert str(policy.hours) == "22-6:30"
    assert policy.min_cohort == 10
    assert not policy.evaluate, "a loss that is hidden cannot be measured"
    assert not policy.audits, "an audit tells two"
    assert disclosure_of(settings).loss == "hidden"
    assert limits_set(settings) == {
        "CLIENT_JOBS": ("digits", "mnist"), "CLIENT_MODELS": ("linear",), "CLIENT_PINNED_DIGESTS": ("ab" * 32,),
        "CLIENT_MIN_COHORT": 10, "CLIENT_HOURS": "22-6:30", "CLIENT_SHARE_LOSS": "hidden",
    }  # fmt: skip


def test_without_settings_only_sizes_are_limited() -> None:
    assert policy_of(load_settings()) == Policy(max_model_megabytes=1000.0, spool_megabytes=2000.0)
    assert disclosure_of(load_settings()) == Disclosure()
    assert limits_set(load_settings()) == {}


def test_every_limit_reaches_the_policy_or_what_is_told() -> None:
    """A limit that is read and then forgotten would be worse than none."""
    given: dict[str, Any] = {
        "client_jobs": "a", "client_models": "b", "client_pinned_digests": "0" * 64, "client_min_cohort": 1,
        "client_min_samples": 2, "client_min_steps": 3, "client_max_local_epochs": 4, "client_max_samples": 5,
        "client_max_model_megabytes": 6, "client_max_training_seconds": 7, "client_max_rounds_per_day": 8,
        "client_hours": "9-10", "client_ac_power_only": True, "client_evaluate": False, "client_spool_megabytes": 9,
        "client_audits": False, "client_max_auditors": 0, "client_share_sample_count": "hidden",
        "client_max_sample_count": 10,
    }  # fmt: skip
    policy = policy_of(load_settings(**given))
    assert {f"client_{field.name}" for field in fields(Policy)} == set(given)
    assert [field.name for field in fields(Policy) if getattr(policy, field.name) == field.default] == []
    told = {"sample_count": "hidden", "loss": "exact", "seconds": "exact"}
    disclosure = disclosure_of(load_settings(**{f"client_share_{name}": share for name, share in told.items()}))
    assert disclosure == Disclosure(**told)
    assert disclosure_of(load_settings(client_max_sample_count=9)).max_sample_count == 9


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="unknown setting 'client_nam'"):
        load_settings(client_nam="x")


def test_every_setting_is_described_with_an_example() -> None:
    """The description is what the owner reads when a value is refused."""
    for name, field in ClientSettings.model_fields.items():
        assert field.description, name
        assert "Example: " in field.description or name == "client_invite", name


def test_the_guide_for_volunteers_names_every_limit_and_no_other() -> None:
    guide = REPOSITORY / "docs" / "how-to" / "limit-what-your-machine-does.md"
    named = set(re.findall(r"CLIENT_[A-Z_]+", guide.read_text(encoding="utf-8")))
    assert {name.upper() for name in LimitSettings.model_fields} == named - {"CLIENT_THREADS"}
