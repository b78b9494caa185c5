"""`fed-compute simulate --sweep`: one table, one document for scripts, and codes that tell of failures."""

import json
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fed_compute.cli import sweep as cli
from fed_compute.cli.exit_codes import FAILED, INTERRUPTED, MISUSED
from fed_compute.cli.main import main
from fed_compute.cli.sweep import _spread
from fed_compute.simulator.sweeps import run as sweeps

SMALL = ["--clients", "8", "--rounds", "1", "--samples-per-client", "8", "--at-once", "1"]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("job.toml --sweep a=1 b=2 --json", "job.toml --sweep a=1 --sweep b=2 --json"),
        ("--sweep a=1 b=2 job.toml --seed 3", "--sweep a=1 --sweep b=2 job.toml --seed 3"),
        ("--sweep a=1 --sweep b=2 c=3", "--sweep a=1 --sweep b=2 --sweep c=3"),
        ("job.toml --data npz:a=b", "job.toml --data npz:a=b"),
        ("--sweep a=1 --out=x b=2", "--sweep a=1 --out=x b=2"),
    ],
)
def test_a_sweep_takes_every_key_that_stands_behind_it(given: str, read: str) -> None:
    assert list(_spread(given.split())) == read.split()


def test_every_combination_is_a_row_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", *SMALL, "--sweep", "lr=0.1,0.4", "seed=1,2", "--out", str(tmp_path)]
    assert main(words) == 0
    told = capsys.readouterr().out
    head, *rows = [line.replace("★", " ").split() for line in told.splitlines() if "accuracy" in line or "±" in line]
    assert head[:3] == ["lr", "seeds", "accuracy"]
    assert [row[:2] for row in rows] == [["0.1", "2"], ["0.4", "2"]]
    assert told.count("★") == 1
    assert f"report {tmp_path}/sweep.html" in told
    assert "again: fed-compute simulate" in told


def test_scripts_get_one_document_and_a_failure_is_a_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", *SMALL, "--sweep", "model.args.input_dim=64,63", "--json", "--out", str(tmp_path)]
    assert main(words) == FAILED
    found = json.loads(capsys.readouterr().out)
    assert (found["combinations"], found["finished"], found["failed"]) == (2, 1, 1)
    assert "64 values" in found["runs"][1]["error"]
    assert found["rows"][0]["accuracy"] is not None


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lrr=1,2", "unknown key 'lrr', did you mean 'training.lr'?"),
        ("rule=fedavg,robst", "did you mean 'robust'?"),
        ("lr", "wanted KEY=VALUE"),
    ],
)
def test_a_mistake_is_told_before_any_training(
    word: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *SMALL, "--sweep", word, "--out", str(tmp_path / "sweep")]) == MISUSED
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "sweep").exists()


def test_ctrl_c_shows_what_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sweeps.conduct

    def stopped(design: object, folder: Path, **more: object) -> None:
        real(design, folder, **more)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeps, "conduct", stopped)
    assert main(["simulate", *SMALL, "--sweep", "lr=0.1", "--out", str(tmp_path)]) == INTERRUPTED
    assert f"report {tmp_path}/sweep.html" in capsys.readouterr().out


def test_the_display_has_a_bar_for_all_and_one_for_each_run_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Console(file=StringIO(), force_terminal=True, width=140)
    monkeypatch.setattr(cli, "err", screen)
    words = [*SMALL[:2], "--rounds", "2", *SMALL[4:], "--sweep", "model.args.input_dim=64,63", "--out", str(tmp_path)]
    assert main(["simulate", *words]) == FAILED
    assert isinstance(screen.file, StringIO)
    told = screen.file.getvalue()
    for seen in ("checking every combination", "model.args.input_dim=64", "1 of 2 done", "2 of 2 done, 1 failed"):
        assert seen in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", told), seen
