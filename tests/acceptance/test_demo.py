"""The demonstration, run as a person runs it: real processes, real HTTP, real data."""

import json
import os
import signal
import subprocess
import sys
import time
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
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)


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


@pytest.mark.timeout(240)
def test_the_same_seed_gives_the_same_model_byte_for_byte(tmp_path: Path) -> None:
    """Whoever doubts a result can run it again."""
    first, second = (
        summary_of(tmp_path / name, "--seed", "1", "--clients", "3", "--rounds", "4") for name in ("first", "second")
    )
    assert first["model"]["digest"] == second["model"]["digest"]
    assert Path(first["model"]["file"]).name == "model.safetensors"
    models = [(tmp_path / name / "demo-report" / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert models[0] == models[1]


@pytest.mark.timeout(120)
def test_it_trains_and_leaves_a_report_and_sound_data(tmp_path: Path) -> None:
    result = run_demo(tmp_path, "--clients", "3", "--rounds", "5")
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stdout  # no terminal, no control codes
    report = tmp_path / "demo-report"
    summary = json.loads((report / "summary.json").read_text())
    assert summary["rounds_closed"] == 5
    assert summary["accuracy"] > 0.7
    assert [client["updates"] for client in summary["by_client"]] == [5, 5, 5]
    assert (report / "curves.png").read_bytes().startswith(PNG)
    assert str(report / "model.safetensors") in result.stdout or "demo-report/model.safetensors" in result.stdout
    data_dir = tmp_path / summary["files"]["data_dir"]
    assert verify_data_dir(data_dir).breaches == ()
    assert processes_of(tmp_path) == []


@pytest.mark.timeout(240)
def test_clients_that_are_killed_come_back_and_the_training_ends(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, "--clients", "3", "--rounds", "6", "--drop", "0.4", "--seed", "3")
    assert summary["rounds_closed"] == 6
    assert summary["deaths"] >= 1
    assert 1 <= summary["returns"] <= summary["deaths"]
    assert verify_data_dir(tmp_path / summary["files"]["data_dir"]).breaches == ()


@pytest.mark.timeout(120)
def test_an_interrupted_run_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fed_compute", "demo", "--clients", "2", "--rounds", "500"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        until = time.monotonic() + 60
        while not (tmp_path / "demo-report" / "run-1" / "logs" / "client-1.log").exists():
            assert time.monotonic() < until, "no client was started"
            time.sleep(0.1)
        children = psutil.Process(demo.pid).children(recursive=True)
        os.kill(demo.pid, signal.SIGINT)
        _, errors = demo.communicate(timeout=50)
    assert demo.returncode == 130, errors
    assert children
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--clients", "0"], "clients"),
        (["--rounds", "0"], "rounds"),
        (["--drop", "1.5"], "drop"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_numbers_that_make_no_sense_are_one_line(tmp_path: Path, options: list[str], said: str) -> None:
    result = run_demo(tmp_path, *options)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    result = run_demo(tmp_path, "--data-dir", "mine")
    assert result.returncode == 2
    assert "is not empty" in result.stderr
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
