"""Settings from the environment."""

from pathlib import Path

import pytest

from fed_compute.client.config import ClientSettings, load_settings
from fed_compute.errors import SettingInvalid


def test_the_documented_defaults_hold_in_an_empty_environment() -> None:
    """The seed's README promises these values."""
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


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="unknown setting 'client_nam'"):
        load_settings(client_nam="x")


def test_every_setting_is_described_with_an_example() -> None:
    """The description is what the owner reads when a value is refused."""
    for name, field in ClientSettings.model_fields.items():
        assert field.description, name
        assert "Example: " in field.description or name == "client_invite", name
