"""Looking at this machine, and at the environment."""

import os
import socket
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from fed_compute.cli.doctor import environment, machine
from fed_compute.client.config import ClientSettings
from fed_compute.clock import ManualClock
from fed_compute.coordinator.keys import new_key
from fed_compute.coordinator.settings import CoordinatorSettings

TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:1F40 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 20 4 30 10 -1
   2: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
"""


def test_only_sockets_that_listen_on_the_port_are_its_owners() -> None:
    assert list(machine.listening_inodes(TABLE, 8000)) == ["111"]
    assert list(machine.listening_inodes(TABLE, 9)) == []


def test_this_machine_can_run_what_it_runs() -> None:
    assert [one.level for one in machine.program()] == ["ok", "ok"]


def test_a_port_that_is_free_is_free_afterwards_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number = probe.getsockname()[1]
    assert machine.port("127.0.0.1", number).level == "ok"
    socket.create_server(("127.0.0.1", number)).close()


def test_an_address_that_is_not_of_this_machine_is_bad() -> None:
    assert machine.port("192.0.2.1", 8000).level == "bad"


class JumpingClock(ManualClock):
    """A wall clock that somebody sets while it is watched."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.jump(60.0)


def test_a_clock_that_is_set_while_it_is_watched_is_noticed() -> None:
    of_year, of_pace, _ = machine.clock(JumpingClock(start=0.0))
    assert (of_year.level, of_pace.level) == ("bad", "warn")
    assert "1970" in of_year.found
    assert "+60.00 s" in of_pace.found


def test_a_file_in_the_way_of_a_folder_is_bad(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert machine.folder("folder", tmp_path / "file" / "below", secrets=[]).level == "bad"
    assert machine.folder("folder", tmp_path / "new" / "below", secrets=[]).level == "ok"
    assert not (tmp_path / "new").exists(), "looking makes nothing"


def test_a_secret_with_an_open_mode_is_named(tmp_path: Path) -> None:
    secret = tmp_path / "pepper"
    secret.touch(mode=0o600)
    assert machine.folder("folder", tmp_path, secrets=["pep*"]).level == "ok"
    secret.chmod(0o644)
    assert str(secret) in machine.folder("folder", tmp_path, secrets=["pep*"]).found


@pytest.mark.parametrize(
    ("kind", "variable", "value"),
    [
        (CoordinatorSettings, "FED_COMPUTE_PORT", "70000"),
        (CoordinatorSettings, "ASYNC_MIN_UPDATES", "none"),
        (CoordinatorSettings, "FED_COMPUTE_ASYNC_MIN_UPDATES", "none"),
        (CoordinatorSettings, "FED_COMPUTE_TRUSTED_PROXIES", "everybody"),
        (ClientSettings, "MAX_RETRIES", "-1"),
        (ClientSettings, "COORDINATOR_URL", "ftp://x"),
    ],
)
def test_a_variable_that_cannot_be_used_is_called_by_its_name(
    kind: type[BaseSettings], variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    (finding,) = environment.settings(kind, prefixes=("FED_COMPUTE_", "CLIENT_"), environ=environment.present())
    assert finding.level == "bad"
    assert finding.found.startswith(f"{variable}: ")
    assert value in finding.found


def test_all_wrong_variables_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FED_COMPUTE_PORT", "FED_COMPUTE_HEARTBEAT_SECONDS", "INCENTIVE_BASE_REWARD"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("FED_COMPUTE_HEARTBEAT_SECOND", "9")
    found = environment.settings(CoordinatorSettings, prefixes=("FED_COMPUTE_",), environ=environment.present())
    assert [one.level for one in found] == ["bad", "bad", "bad", "warn"]
    assert "FED_COMPUTE_HEARTBEAT_SECONDS" in found[-1].advice


def test_no_secret_of_the_environment_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key().write()
    monkeypatch.setenv("CLIENT_NAME", key * 2)  # pasted into the wrong variable
    monkeypatch.setenv("CLIENT_INVITE", "i" * 5000)
    found = environment.settings(ClientSettings, prefixes=("CLIENT_",), environ=environment.present())
    assert any(one.level == "bad" for one in found)
    assert not any(key in one.found or "iiii" in one.found for one in found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a while")
def test_a_folder_within_somebody_elses_is_a_finding_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.seteuid(65_534)
    try:
        finding = machine.folder("folder", tmp_path / "theirs" / "data", secrets=[])
    finally:
        os.seteuid(0)
    assert finding.level == "bad"
    assert "theirs" in finding.found
