"""The real program against a real coordinator: exit codes, completion, events, leaderboard, JSON of what is shown."""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fed_compute.cli.exit_codes import EXIT_CODES
from fed_compute.cli.main import main
from fed_compute.coordinator.keys import new_key
from tests.acceptance.conftest import SMALL_JOB, Serve, Served, update_body

PROGRAM = Path(sysconfig.get_path("scripts")) / "fed-compute"
SECONDS = 50


@pytest.fixture(scope="module")
def served(serve_job: Serve) -> Served:
    """A coordinator at which two clients have made a version."""
    served = serve_job(f'name = "shown"\n{SMALL_JOB}')
    members = [served.join("ann"), served.join("ben")]
    tasks = [member.task() for member in members]
    for member, task in zip(members, tasks, strict=True):
        assert member.put(task, update_body(task)).status_code == 201
    served.http.get("/aggregate/1", headers={"Authorization": f"Bearer {served.operator_key}"})
    return served


@pytest.fixture
def shown(served: Served, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return how to run a command at the coordinator; what it prints comes back."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main([*arguments, "--url", served.url]) == 0
        return capsys.readouterr().out

    return run


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed program."""
    given = {**os.environ, "TERM": "dumb", **environment}
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False, env=given
    )


# Exit codes: each is provoked with the program itself.


def test_what_is_done_returns_0() -> None:
    assert program("--version").returncode == 0


def test_what_is_not_well_returns_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = program("doctor", "--data-dir", str(tmp_path / "data"), "--port", port, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["well"] is False


@pytest.mark.parametrize("arguments", [["leaderbord"], ["events", "--lasst", "3"], ["events", "--since", "soon"]])
def test_what_cannot_be_done_returns_2(arguments: list[str]) -> None:
    done = program(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr


def test_what_the_coordinator_refuses_returns_3(served: Served) -> None:
    done = program("client", "list", "--url", served.url, FED_COMPUTE_OPERATOR_KEY=new_key().write())
    assert (done.returncode, done.stdout) == (3, "")
    assert "does not know the key" in done.stderr


def test_a_coordinator_that_is_not_there_returns_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    done = program("events", "--url", f"http://127.0.0.1:{port}")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: no answer from")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_stopped_by_a_signal_returns_its_code_and_no_traceback(
    served: Served, number: signal.Signals, code: int
) -> None:
    with following(served) as running:
        running.send_signal(number)
        returned = running.wait(SECONDS)
        assert running.stderr is not None
        assert "Traceback" not in running.stderr.read()
    assert (returned if returned >= 0 else 128 - returned) == code, "a shell adds 128 to the signal's number"
    assert code in EXIT_CODES


@contextmanager
def following(served: Served) -> Iterator[subprocess.Popen[str]]:
    """Run `events --follow` for as long as the block runs, which begins once it has shown something."""
    command = [PROGRAM, "events", "--follow", "--since", "0", "--kind", "job_created", "--kind", "client_registered"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--json", "--url", served.url], text=True, **pipes) as running:
        try:
            assert event_of(running)["kind"] == "job_created"
            yield running
        finally:
            running.kill()


def event_of(running: subprocess.Popen[str]) -> dict[str, object]:
    """Return the next event that a program shows."""
    assert running.stdout is not None
    return dict(json.loads(running.stdout.readline()))


# Completion.


COMPLETIONS = {
    "lea": ["leaderboard"],
    "leaderboard --window we": ["week"],
    "events --kind round_cl": ["round_close_requested", "round_closed"],
}


def test_bash_offers_commands_and_values_by_the_script_that_the_program_gives_it() -> None:
    script = f"""
        source <(_FED_COMPUTE_COMPLETE=source_bash "{PROGRAM}")
        offer=$(complete -p fed-compute | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        while read -r -a typed; do
            COMP_WORDS=(fed-compute "${{typed[@]}}"); COMP_CWORD=${{#typed[@]}}
            "$offer" fed-compute
            echo "${{COMPREPLY[@]}}"
        done
    """
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        input="".join(f"{words}\n" for words in COMPLETIONS),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
        env={**os.environ, "PATH": path},
    )
    offered = [line.split() for line in done.stdout.splitlines()]
    assert dict(zip(COMPLETIONS, offered, strict=True)) == COMPLETIONS


# Events.


def test_events_are_lines_for_people_and_for_programs(shown: Callable[..., str]) -> None:
    entries = [json.loads(line) for line in shown("events", "--last", "1000", "--json").splitlines()]
    kinds = [entry["kind"] for entry in entries]
    assert {"job_created", "client_registered", "update_accepted", "version_published"} <= set(kinds)
    assert [entry["seq"] for entry in entries] == sorted({entry["seq"] for entry in entries})
    lines = shown("events", "--last", "1000").splitlines()
    assert len(lines) == len(entries)
    assert any("update_accepted" in line and "shown round 1 ann" in line for line in lines)


def test_events_can_be_chosen(shown: Callable[..., str]) -> None:
    def chosen(*options: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in shown("events", "--json", *options).splitlines()]

    everything = chosen("--last", "1000")
    accepted = chosen("--last", "1000", "--kind", "update_accepted")
    assert [entry["kind"] for entry in accepted] == ["update_accepted"] * 2
    assert {entry["client_id"] for entry in chosen("--last", "1000", "--client", "ann")} == {"ann"}
    assert chosen("--last", "1000", "--kind", "job_created", "--kind", "update_accepted", "--client", "ben") == [
        entry for entry in accepted if entry["client_id"] == "ben"
    ]
    middle = everything[len(everything) // 2]
    assert chosen("--since", str(middle["seq"])) == everything[len(everything) // 2 + 1 :]
    assert chosen("--since", "1h") == everything
    assert chosen("--last", "0") == []
    assert {entry["job"] for entry in chosen("--since", "0", "--job", "shown")} == {"shown"}


def test_following_goes_on_with_what_happens_next(served: Served) -> None:
    with following(served) as running:
        served.join("newcomer")
        while (event := event_of(running))["client_id"] != "newcomer":
            assert event["kind"] == "client_registered"


# What else is shown.


def test_the_leaderboard_shows_clients_and_teams(shown: Callable[..., str]) -> None:
    page = json.loads(shown("leaderboard", "--json"))
    assert {place["name"] for place in page["clients"]} >= {"ann", "ben"}
    table = shown("leaderboard")
    assert "in escrow" in table
    assert "ann" in table
    assert json.loads(shown("leaderboard", "--teams", "--window", "week", "--json"))["window"] == "week"
    assert "no team has earned anything yet" in shown("leaderboard", "--teams")
    assert len(json.loads(shown("leaderboard", "--limit", "1", "--json"))["clients"]) == 1


@pytest.mark.parametrize("command", ["client list", "client show ann", "key list", "invite list"])
def test_what_an_operator_looks_at_is_one_document(
    shown: Callable[..., str], served: Served, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("FED_COMPUTE_OPERATOR_KEY", served.operator_key)
    json.loads(shown(*command.split(), "--json"))
    assert shown(*command.split())


def test_the_program_is_the_one_of_this_interpreter() -> None:
    assert PROGRAM.exists()
    assert Path(sys.prefix) in PROGRAM.parents
