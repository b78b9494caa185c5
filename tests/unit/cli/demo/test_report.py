"""What a demonstration leaves behind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fed_compute.cli.demo.command import farewell, program_name
from fed_compute.cli.demo.curves import count_holdings, draw_curves
from fed_compute.cli.demo.places import Places, prepare
from fed_compute.cli.demo.plan import DemoPlan
from fed_compute.cli.demo.report import summary_of, write_summary
from tests.unit.cli.demo.journal import NAMES, measured, new_story, one_round

PNG = b"\x89PNG\r\n\x1a\n"
FINAL = {"version": "v3", "digest": "d" * 64}
PLAN = DemoPlan(clients=2, rounds=2, seed=1)


def summary(places: Places, *, deaths: int = 0) -> dict[str, Any]:
    """Return the summary of a run with two rounds."""
    story = new_story(*one_round(1, at=10.0), *one_round(2, at=20.0))
    for number in (1, 2):
        for name in NAMES:
            story.take(measured(name, 30.0, accuracy=0.4 * number, round_id=number))
    for _ in range(deaths):
        story.died("client-1")
    return summary_of(PLAN, story, places, final=FINAL, started_at=5.0, seconds=31.234)


def test_the_summary_has_the_last_models_figures_and_every_round(tmp_path: Path) -> None:
    places = prepare(tmp_path, None)
    found = summary(places)
    assert (found["accuracy"], found["loss"], found["measured_by"]) == (pytest.approx(0.8), 0.5, 2)
    assert found["model"] == {"version": "v3", "digest": "d" * 64, "file": str(places.model)}
    assert [(round_["round"], round_["elapsed_seconds"]) for round_ in found["by_round"]] == [(1, 8.0), (2, 18.0)]
    assert [client["updates"] for client in found["by_client"]] == [2, 2]
    write_summary(found, places)
    assert json.loads(places.summary.read_text()) == found


def test_the_parts_of_the_data_are_disjoint_complete_and_very_different() -> None:
    holdings = count_holdings(DemoPlan(clients=5, rounds=1, seed=1))
    assert holdings.shape == (5, 10)
    assert holdings.sum() == 1797
    shares = holdings / holdings.sum(axis=1, keepdims=True)
    assert np.ptp(shares, axis=0).max() > 0.3


@pytest.mark.parametrize("clients", [1, 2, 40])
def test_the_curves_are_a_picture(tmp_path: Path, clients: int) -> None:
    places = prepare(tmp_path, None)
    found = summary(places, deaths=3)
    found["by_round"][0]["accuracy"] = found["by_round"][0]["loss"] = None  # nobody measured the first model
    found["by_client"] = found["by_client"][:1] * clients
    draw_curves(found, np.ones((clients, 10), dtype=np.int64), places.curves)
    assert places.curves.read_bytes().startswith(PNG)


def test_the_last_words_say_where_everything_is_and_how_to_go_on(tmp_path: Path) -> None:
    places = prepare(tmp_path, None)
    text = "\n".join(farewell(summary(places), program="fed-compute"))
    assert "2 rounds with 2 clients in 31 s, accuracy on held-out samples 0.800" in text
    for path in (places.model, places.curves, places.summary):
        assert str(path) in text
    assert f"fed-compute verify {places.data_dir}" in text
    assert "killed" not in text.replace("while clients are killed", "")


def test_the_last_words_count_deaths(tmp_path: Path) -> None:
    places = prepare(tmp_path, None)
    assert "clients were killed once and came back 0 times" in farewell(summary(places, deaths=1), program="x")


def test_the_program_is_called_as_the_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied from the screen, the command must work."""
    program = tmp_path / "fed-compute"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program_name(str(program)) == "fed-compute"
    monkeypatch.setenv("PATH", "/nowhere")
    assert program_name(".venv/bin/fed-compute") == ".venv/bin/fed-compute"
    assert program_name("/somewhere/__main__.py") == "fed-compute"
