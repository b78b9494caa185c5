"""What a volunteer says to the clients of this machine, and what is told of them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fed_compute.cli.control import duration
from fed_compute.cli.main import main
from fed_compute.client.own_folder import own_folder
from fed_compute.client.security import CredentialStore
from fed_compute.client.status_board import StatusBoard
from fed_compute.client.wishes import Wish, read_wish, write_wish
from fed_compute.clock import SystemClock

URL = "http://c.test"
TASK = {"task_id": "t_1", "task": "train", "job": "digits", "round_id": 3, "model_version": "v3", "seconds_left": 60.0}


class Machine:
    """A state folder with clients that run until the test is over, or have ended."""

    def __init__(self, folder: Path, undo: ExitStack) -> None:
        self.folder = folder
        self._undo = undo
        self._boards: dict[str, StatusBoard] = {}
        self._slots: dict[str, str] = {}

    def client(self, name: str, *events: tuple[str, dict[str, Any]], runs: bool = True) -> None:
        """Let a client sign in and then have these events; one that does not run has ended after them."""
        with ExitStack() as life:
            store = CredentialStore(self.folder)
            credential = store.claim(URL, name)
            life.callback(store.release)
            own = own_folder(self.folder, credential.stem)
            own.make()
            board = StatusBoard(own.status, SystemClock(), coordinator=URL, run=f"run of {name}")
            board.begin()
            for event, fields in (("signed_in", {"client_id": name}), *events):
                board.event(event, **fields)
            self._slots[name] = credential.stem
            if runs:
                self._undo.enter_context(life.pop_all())

    def wish(self, name: str) -> Wish:
        return read_wish(own_folder(self.folder, self._slots[name]).wish)

    def asked(self, name: str, wish: Wish) -> None:
        write_wish(own_folder(self.folder, self._slots[name]).wish, wish)

    def leave_update(self, name: str, num_bytes: int, *, aside: bool = False) -> None:
        own = own_folder(self.folder, self._slots[name])
        folder = own.aside if aside else own.spool
        folder.mkdir(exist_ok=True)
        (folder / f"t_{num_bytes}.update").write_bytes(b"x" * num_bytes)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("CLIENT_STATE_DIR", str(tmp_path))
    with ExitStack() as undo:
        yield Machine(tmp_path, undo)


def test_a_pause_reaches_every_client_that_runs_and_no_other(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.client("lab", ("task_received", TASK))
    machine.client("home")
    machine.client("gone", runs=False)
    assert main(["pause"]) == 0
    assert [machine.wish(name).kind for name in ("lab", "home", "gone")] == ["pause", "pause", "go"]
    told = capsys.readouterr().out
    assert "lab pauses before its next batch" in told
    assert "home pauses" in told
    assert "gone" not in told


def test_a_name_chooses_one_client(machine: Machine) -> None:
    machine.client("lab")
    machine.client("home")
    assert main(["pause", "home", "--for", "2h"]) == 0
    assert machine.wish("lab") == Wish()
    until = machine.wish("home").until
    assert until is not None
    assert abs(until - SystemClock().now() - 7200) < 60


def test_resume_takes_a_pause_back_also_from_a_client_that_does_not_run(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.client("lab")
    machine.client("gone", runs=False)
    machine.client("ended", runs=False)
    for name in ("lab", "gone"):
        machine.asked(name, Wish("pause"))
    assert main(["resume"]) == 0
    assert [machine.wish(name) for name in ("lab", "gone")] == [Wish(), Wish()]
    assert capsys.readouterr().out.splitlines() == ["gone will go on at its next start", "lab goes on"]


def test_finish_is_said_to_the_run_that_is_under_way(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.client("lab", ("task_received", TASK))
    assert main(["finish", "lab"]) == 0
    assert machine.wish("lab") == Wish("finish", run="run of lab")
    assert "ends when its task is done and answered" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["pause", "resume", "finish"])
def test_nobody_to_ask_is_an_error_that_says_what_to_do(
    machine: Machine, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([command]) == 2
    assert "start one with fed-compute join" in " ".join(capsys.readouterr().err.split())
    machine.client("lab")
    assert main([command, "lap"]) == 2
    assert "running: lab" in " ".join(capsys.readouterr().err.split())
    assert machine.wish("lab") == Wish()


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), (" 1D ", 86_400)])
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "30", "m", "-1h", "1.5h", "2 h", "99999d", "1h30m"])
def test_what_is_no_duration_is_refused_before_anybody_is_asked(machine: Machine, text: str) -> None:
    machine.client("lab")
    assert main(["pause", f"--for={text}"]) == 2
    assert machine.wish("lab") == Wish()


def test_the_status_says_what_a_client_does_within_80_columns(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.client("lab", ("task_received", TASK), ("progress", {"task_id": "t_1", "fraction": 0.25}))
    machine.leave_update("lab", 14_000)
    machine.asked("lab", Wish("pause"))
    assert main(["status"]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    words = " ".join(told.split())
    assert "lab at http://c.test" in words
    assert "training v3, round 3 of job digits" in words
    assert "asked to pause" in words
    assert "1 update (14.0 kB) waits to be sent" in words


def test_the_status_of_a_client_that_does_not_run_names_what_it_has_not_sent(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.client("lab", ("update_accepted", {}), ("stopped", {}), runs=False)
    machine.client("old", runs=False)
    machine.leave_update("lab", 14_000)
    machine.leave_update("lab", 2_000, aside=True)
    assert main(["status"]) == 1, "nobody runs"
    words = " ".join(capsys.readouterr().out.split())
    assert "lab at http://c.test not running" in words
    assert "fed-compute join sends it first; 1 set aside in" in words
    assert "1 accepted" in words
    assert "old" not in words
    assert main(["status", "--all"]) == 1
    assert "old at" in capsys.readouterr().out
    assert main(["status", "unknown"]) == 2


def test_the_status_for_programs_is_one_document(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.client("lab", ("task_received", TASK))
    machine.leave_update("lab", 14_000)
    machine.asked("lab", Wish("finish", run="run of lab"))
    assert main(["status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["state_dir"] == str(machine.folder)
    (client,) = document["clients"]
    assert (client["client"], client["running"], client["doing"], client["wish"]) == ("lab", True, "training", "finish")
    assert client["task"]["task_id"] == "t_1"
    assert (client["spool"]["waiting"]["count"], client["spool"]["waiting"]["num_bytes"]) == (1, 14_000)


def test_a_wish_for_an_earlier_run_is_not_told(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.client("lab")
    machine.asked("lab", Wish("finish", run="an earlier one"))
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clients"][0]["wish"] == "go"


@pytest.mark.parametrize("command", ["status", "pause", "resume", "finish"])
def test_the_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    assert "Exit codes: 0" in capsys.readouterr().out
