"""`fed-compute simulate`: a report, a summary for scripts, a picture of the split, and one line for a mistake."""

import json
from pathlib import Path

import pytest

from fed_compute.cli.exit_codes import MISUSED
from fed_compute.cli.main import main


def test_the_summary_is_one_json_document_and_its_command_gives_the_same_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "--clients",
        "12",
        "--rounds",
        "2",
        "--seed",
        "5",
        "--behavior",
        "volunteer",
        "--measure-every",
        "2",
        "--json",
    ]
    assert main(["simulate", *given, "--out", str(tmp_path / "a")]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["rounds_closed"] == 2
    _, *again = first["again"].split()
    assert main([*again, "--json", "--out", str(tmp_path / "b")]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["model_digest"] == first["model_digest"]
    assert (tmp_path / "a" / "rounds.csv").read_bytes() == (tmp_path / "b" / "rounds.csv").read_bytes()


def test_the_split_can_be_drawn_without_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "split.png"
    assert main(["simulate", "--show-split", str(picture), "--split", "shards:1", "--clients", "6"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture.name) in capsys.readouterr().out.replace("\n", "")


def test_a_wrong_key_in_a_fleet_file_is_one_line_with_the_nearest_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = tmp_path / "fleet.toml"
    fleet.write_text('[[device]]\nname = "pc"\nspeed_spred = 2.0\n')
    assert main(["simulate", "--behavior", str(fleet)]) == MISUSED
    assert "did you mean 'device.speed_spread'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--engine", "rya"], "engine 'rya' is unknown, did you mean 'ray'?"),
        (["--engine", "ray", "--address", "head"], "did you mean 'head:6379'?"),
        (["--address", "auto"], "engine 'local' has none; add engine 'ray'"),
    ],
)
def test_a_wrong_engine_or_address_is_one_line_with_the_nearest_one(
    given: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *given, "--out", str(tmp_path / "report")]) == MISUSED
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "report").exists()


def test_a_report_that_has_no_place_is_said_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fed_compute.simulator.run.CohortEngine.train", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "file").write_text("here already")
    assert main(["simulate", "--rounds", "1", "--out", str(tmp_path / "file")]) == MISUSED
    assert "is no folder that can be written to" in " ".join(capsys.readouterr().err.split())
