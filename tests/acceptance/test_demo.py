"""The demonstration, run as a person runs it: real processes, real HTTP, real data."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from fed_compute.coordinator.verify import verify_data_dir

PNG = b"\x89PNG\r\n\x1a\n"


def run_demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the demonstration in a folder of its own."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "fed_compute", "demo", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)


def summary_of(folder: Path, *options: str) -> dict[str, Any]:
    """Run a demonstration that must succeed, and return its summary."""
    result = run_demo(folder, "--json", *options)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of the processes that work in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.timeout(600)
def test_it_leaves_a_report_and_sound_data_and_again_gives_the_same_model_byte_for_byte(tmp_path: Path) -> None:
    """Whoever doubts a result can run it again."""
    options = ("--seed", "1", "--clients", "3", "--rounds", "3")
    shown = run_demo(tmp_path / "first", *options)
    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout  # no terminal, no control codes
    rounds = re.findall(
        r"^round (\d)/3  closed    updates 3  loss \d\.\d{3}  accuracy 0\.\d{3} ", shown.stdout, re.MULTILINE
    )
    assert rounds == ["1", "2", "3"]
    report = tmp_path / "first" / "demo-report"
    summary = json.loads((report / "summary.json").read_text())
    assert [round_["updates"] for round_ in summary["by_round"]] == [3, 3, 3]
    assert [client["updates"] for client in summary["by_client"]] == [3, 3, 3]
    assert summary["accuracy"] > 0.85
    assert summary["measured_by"] == 3
    assert (report / "curves.png").read_bytes().startswith(PNG)
    model = (report / "model.safetensors").read_bytes()
    assert hashlib.sha256(model).hexdigest() == summary["model"]["digest"]
    assert "demo-report/model.safetensors" in shown.stdout
    assert verify_data_dir(tmp_path / "first" / "demo-report" / "run-1").breaches == ()
    assert processes_of(tmp_path) == []

    again = summary_of(tmp_path / "second", *options, "--data-dir", "mine")
    assert again["model"]["digest"] == summary["model"]["digest"]
    assert verify_data_dir(tmp_path / "second" / "mine").breaches == ()


@pytest.mark.timeout(300)
def test_a_client_that_is_killed_comes_back_as_itself_and_the_training_ends(tmp_path: Path) -> None:
    """Seed 41 kills client-2 at the beginning of round 1, and nobody else. Two clients wait for each other."""
    summary = summary_of(tmp_path, "--clients", "2", "--rounds", "3", "--drop", "0.3", "--seed", "41")
    assert [round_["updates"] for round_ in summary["by_round"]] == [2, 2, 2]
    assert [(client["died"], client["came_back"]) for client in summary["by_client"]] == [(0, 0), (1, 1)]
    assert (summary["deaths"], summary["returns"]) == (1, 1)
    assert verify_data_dir(tmp_path / summary["files"]["data_dir"]).breaches == ()


@contextmanager
def demo_with_a_client(folder: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, psutil.Process]]]:
    """Start a long demonstration; the block gets it and, by name, the processes it has started."""
    command = [sys.executable, "-m", "fed_compute", "demo", "--clients", "1", "--rounds", "500"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            until = time.monotonic() + 60
            while len(children := psutil.Process(demo.pid).children(recursive=True)) < 2:
                assert time.monotonic() < until, "no client was started"
                assert demo.poll() is None
                time.sleep(0.1)
            yield demo, {child.environ().get("CLIENT_NAME", "coordinator"): child for child in children}
        finally:
            demo.kill()


def assert_gone(children: Iterable[psutil.Process]) -> None:
    """Check that processes have ended, or do so within seconds."""
    _, alive = psutil.wait_procs(list(children), timeout=10)
    assert alive == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_however_it_is_ended_no_process_is_left_behind(tmp_path: Path, number: int, code: int) -> None:
    with demo_with_a_client(tmp_path) as (demo, children):
        os.kill(demo.pid, number)
        _, errors = demo.communicate(timeout=50)
        assert demo.returncode == code
        assert "Traceback" not in errors
        assert_gone(children.values())


@pytest.mark.timeout(120)
def test_a_client_that_dies_by_itself_is_named_with_its_log(tmp_path: Path) -> None:
    with demo_with_a_client(tmp_path) as (demo, children):
        children["client-1"].kill()
        _, errors = demo.communicate(timeout=50)
        assert demo.returncode == 1
        assert "error: client-1 was ended by SIGKILL, which nobody asked for" in errors
        assert str(Path("demo-report") / "run-1" / "logs" / "client-1.log") in errors
        assert_gone(children.values())
