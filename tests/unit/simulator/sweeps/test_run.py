"""Whole sweeps, small ones: the bytes of single simulations, seeds as spread, and nothing lost by a failure."""

import csv
import json
import shlex
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from fed_compute.errors import SweepInvalid
from fed_compute.protocol.job import load_job
from fed_compute.simulator import Sweep, simulate, sweep
from fed_compute.simulator.sweeps import SweepInterrupted
from fed_compute.simulator.sweeps.events import Began, Ended, Event, Failed, Planned, RoundEnded
from fed_compute.simulator.sweeps.grid import parse_words
from fed_compute.simulator.sweeps.outcome import Curve

JOB = {"rounds": {"total": 2, "target_updates": 4, "min_updates": 3}, "training": {"batch_size": 8}}
WRONG_MODEL = {"model.args.input_dim": [64, 63]}
"""The second one fits no digits, which shows only when it trains."""


def run(grid: dict[str, Any], **more: Any) -> Sweep:
    given: dict[str, Any] = {"clients": 8, "samples_per_client": 12, "at_once": 1, **more}
    return sweep(JOB, grid=grid, **given)


def training_processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "fed_compute.simulator.sweeps.work" in child.cmdline()]


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return run({"lr": [0.1, 0.4], "rule": ["fedavg", "median"]}, out=tmp_path_factory.mktemp("sweep"))


def test_a_run_has_the_bytes_of_the_same_simulation_alone(four: Sweep, tmp_path: Path) -> None:
    job = {**JOB, "training": {"batch_size": 8, "lr": 0.4}, "aggregation": {"rule": "median"}}
    alone = simulate(job, clients=8, samples_per_client=12).save(tmp_path)
    inside = four.folder / "runs" / four.outcomes[3].run.folder
    names = sorted(path.name for path in alone.iterdir())
    assert {"report.html", "model.safetensors", "rounds.csv"} <= set(names)
    assert {name for name in names if (alone / name).read_bytes() != (inside / name).read_bytes()} == set()


def test_models_that_are_measured_seldom_are_compared_by_what_was_measured() -> None:
    job = {**JOB, "rounds": {**JOB["rounds"], "total": 5}}
    grid = {"lr": [0.1, 0.4], "seed": [1, 2]}
    given: dict[str, Any] = {"clients": 8, "samples_per_client": 12, "at_once": 1}
    each, seldom = sweep(job, grid=grid, **given), sweep(job, grid=grid, measure_every=2, **given)
    accuracies = [[one.measures()["accuracy"] for one in found.outcomes] for found in (each, seldom)]
    assert accuracies[0] == accuracies[1]
    assert {one.measures()["best_round"] for one in seldom.outcomes} <= {0, 2, 4, 5}
    curves = [Curve.of(found.rows[0], has_classes=True) for found in (each, seldom)]
    assert [curve.rounds for curve in curves if curve is not None] == [(0, 1, 2, 3, 4, 5), (0, 2, 4, 5)]
    assert [list(line.get_xdata()) for line in seldom.plot().axes[0].get_lines()] == [[0, 2, 4, 5]] * 2
    assert "--measure-every 2" in seldom.command()
    assert "--measure-every" not in each.command()


def test_processes_change_no_byte_and_one_that_is_lost_loses_its_own_run_only(tmp_path: Path) -> None:
    """The first process is killed; when the other runs are done Ctrl-C comes, and nothing is left running."""
    told: list[Event] = []

    def watch(event: Event) -> None:
        told.append(event)
        if sum(isinstance(event, Began) for event in told) == 1 and isinstance(event, Began):
            training_processes()[0].kill()
        if isinstance(event, Ended) and sum(isinstance(event, Ended) for event in told) == 2:
            raise KeyboardInterrupt

    rng = np.random.default_rng(0)
    arrays = rng.random((80, 64)), rng.integers(10, size=80), np.repeat([f"user {i}" for i in range(8)], 10)
    with pytest.raises(SweepInterrupted, match="3 of 60 simulations are done") as stop:
        run({"seed": range(60)}, at_once=2, data=arrays, split="user", tell=watch, out=tmp_path)
    assert training_processes() == []
    result = stop.value.result
    (lost,) = [outcome for outcome in result.outcomes if outcome.error is not None]
    assert "was killed by signal 9" in str(lost.error)
    for outcome in result.outcomes:
        if outcome.summary is not None:
            alone = simulate(JOB, clients=8, samples_per_client=12, seed=outcome.run.seed, data=arrays, split="user")
            assert outcome.summary["model_digest"] == alone.model_digest
            assert outcome.rounds == alone.rounds
            assert (tmp_path / "runs" / outcome.run.folder / "report.html").read_text(encoding="utf-8") == alone.html()
    assert "57 of 60" in (tmp_path / "sweep.html").read_text(encoding="utf-8")


def test_rows_that_differ_in_their_seed_are_one_with_mean_and_spread() -> None:
    result = run({"lr": [0.1, 0.4], "seed": [1, 2, 3]})
    assert [row.values for row in result.rows] == [{"lr": 0.1}, {"lr": 0.4}]
    accuracies = [outcome.measures()["accuracy"] for outcome in result.outcomes[3:]]
    spread = result.rows[1].measure("accuracy")
    assert spread is not None
    assert spread.mean == pytest.approx(np.mean(accuracies))
    assert spread.deviation == pytest.approx(np.std(accuracies, ddof=1))
    assert spread.deviation is not None
    assert spread.deviation > 0
    assert f"{100 * spread.mean:.1f} ± {100 * spread.deviation:.1f} %" in str(result.table())
    assert {outcome.run.seed for outcome in result.rows[0].outcomes} == {1, 2, 3}


def test_a_run_that_fails_is_named_and_the_others_are_there(tmp_path: Path) -> None:
    told: list[Event] = []
    result = run(WRONG_MODEL, out=tmp_path, tell=told.append)
    kinds: list[object] = [type(event) for event in told]
    assert kinds == [Planned, Began, RoundEnded, RoundEnded, Ended, Began, Failed]
    good, bad = result.rows
    assert (len(good.done), len(bad.done)) == (1, 0)
    assert "64 values" in bad.errors[0]
    assert result.best is good
    found = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
    assert (found["finished"], found["failed"], found["best"]) == (1, 1, {"model.args.input_dim": "64"})
    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    assert "64 values" in page
    assert page.count("/report.html") == 1
    assert str(result.table()).splitlines()[2].split() == ["63", "1"]


def test_nothing_runs_if_one_combination_cannot_be(tmp_path: Path) -> None:
    told: list[Event] = []
    with pytest.raises(SweepInvalid, match="rule=robust"):
        run({"rule": ["fedavg", "robust"]}, out=tmp_path / "sweep", tell=told.append)
    assert told == []
    assert not (tmp_path / "sweep").exists()


def test_ctrl_c_leaves_what_is_finished(tmp_path: Path) -> None:
    def stop_in_the_second(event: Event) -> None:
        if event == Began(2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stop:
        run({"lr": [0.1, 0.2, 0.3]}, out=tmp_path, tell=stop_in_the_second)
    assert isinstance(stop.value, SweepInterrupted)
    assert [outcome.run.number for outcome in stop.value.result.outcomes] == [1]
    assert (tmp_path / "runs" / "001-lr=0.1" / "report.html").is_file()
    assert "2 of 3" in (tmp_path / "sweep.html").read_text(encoding="utf-8")


def test_the_folder_has_the_table_in_every_form_and_all_reports(four: Sweep) -> None:
    folder = four.folder
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "sweep.html", "sweep.csv", "sweep.parquet", "sweep.json", "sweep.png", "sweep-map.png",
        "job.toml", "fleets", "runs",
    }  # fmt: skip
    rows = list(csv.DictReader(StringIO((folder / "sweep.csv").read_text(encoding="utf-8"))))
    assert [(row["lr"], row["rule"]) for row in rows] == [
        ("0.1", "fedavg"), ("0.1", "median"), ("0.4", "fedavg"), ("0.4", "median"),
    ]  # fmt: skip
    for row, outcome in zip(rows, four.outcomes, strict=True):
        summary = json.loads((folder / row["report"] / "summary.json").read_text(encoding="utf-8"))
        assert float(row["accuracy"]) == summary["accuracy"] == outcome.measures()["accuracy"]
        assert row["model_digest"] == summary["model_digest"]
    page = (folder / "sweep.html").read_text(encoding="utf-8")
    assert page.count("/report.html") == 4
    assert "http" not in page.replace('<meta http-equiv="Content-Security-Policy"', "")
    assert page.count("<svg") == 2


def test_the_command_does_the_same_again(tmp_path: Path) -> None:
    fleet = {"name": "two words", "device": [{"name": "pc", "speed_spread": 4.0}]}
    result = run({"pre": [["bucketing"]], "behavior": ["stable", fleet]}, out=tmp_path, seed=5)
    _, _, job, *words = shlex.split(result.command(tmp_path))
    options, swept = words[: words.index("--sweep")], words[words.index("--sweep") + 1 :]
    assert swept == ['pre=["bucketing"]', f"behavior=stable,{tmp_path}/fleets/2-two-words.toml"]
    assert dict(zip(options[::2], options[1::2], strict=True))["--seed"] == "5"
    again = sweep(load_job(Path(job)), grid=parse_words(swept), clients=8, samples_per_client=12, seed=5, at_once=1)
    assert [outcome.summary and outcome.summary["model_digest"] for outcome in again.outcomes] == [
        outcome.summary and outcome.summary["model_digest"] for outcome in result.outcomes
    ]


def test_a_regression_is_compared_by_its_loss() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((200, 3))
    job = {"model": {"name": "linear", "args": {"input_dim": 3, "output_dim": 1}}, "training": {"loss": "mse"}}
    result = sweep(
        {**JOB, **job}, grid={"lr": [0.01, 0.2]}, clients=8, at_once=1, data=(x, (x @ [1.0, 2.0, 3.0])[:, None])
    )
    assert result.best is result.rows[1]
    assert "accuracy" not in str(result.table())


def test_a_result_without_a_folder_is_gone_with_its_files_unless_they_are_saved(tmp_path: Path) -> None:
    result = run({"lr": 0.1})
    temporary, kept = result.folder, result.save(tmp_path / "kept")
    assert temporary.exists()
    with pytest.raises(SweepInvalid, match="a map has two keys with several values, found 0"):
        result.plot_map()
    del result
    assert not temporary.exists()
    assert (kept / "runs" / "001" / "report.html").is_file()


def test_a_result_shows_itself_as_table_lines_and_map(four: Sweep) -> None:
    assert "<svg" in four._repr_html_()
    assert "<table>" in four.table()._repr_html_()
    assert four.table().to_markdown().count("\n") == 5
    lines, cells = four.plot(), four.plot_map()
    assert [len(axis.get_lines()) for axis in lines.axes] == [4, 4]
    assert len(cells.axes[0].texts) == 4


def test_a_narrow_terminal_gets_the_most_important_columns(four: Sweep) -> None:
    table = four.table()
    widths = [max(map(len, str(table.within(width)).splitlines())) for width in (400, 90, 60)]
    assert widths[0] > 90 >= widths[1] > 60 >= widths[2]
    assert table.within(60).head[:3] == ("lr", "rule", "accuracy")
