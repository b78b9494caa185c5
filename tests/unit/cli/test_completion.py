"""What the shell offers for names that this machine knows."""

from pathlib import Path

import pytest

from fed_compute.cli.control import client_names
from fed_compute.cli.events import kind_names
from fed_compute.client.own_folder import own_folder


def test_the_names_of_this_machines_clients_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_STATE_DIR", str(tmp_path))
    for name in ("lab-1", "lab-2", "other"):
        own_folder(tmp_path, name).make()
    assert client_names("lab") == ["lab-1", "lab-2"]
    assert client_names("none") == []


def test_a_setting_that_is_wrong_leaves_the_shell_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever presses the tab key wants no error message."""
    monkeypatch.setenv("MAX_RETRIES", "many")
    assert client_names("") == []


def test_kinds_of_events_are_offered() -> None:
    assert {"round_closed", "round_opened"} <= set(kind_names("round_"))
