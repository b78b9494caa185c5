"""Each program of examples/ runs as it stands, and writes what it says it writes."""

import runpy
from pathlib import Path

import pytest

from fed_compute.client.models import registry
from fed_compute.simulator.run import one_thread
from fed_compute.simulator.sweeps import conduct
from tools.site.links import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
PROGRAMS = sorted(EXAMPLES.glob("[0-9]*.py"))
WRITES = {
    "01_hello": {"hello-report/report.html", "hello-report/accuracy.png"},
    "02_non_iid": {"non-iid-report/sweep.html", "non-iid-report/sweep.png", "non-iid-report/who-has-what.png"},
    "03_volunteers": {"volunteers-report/sweep.html", "volunteers-report/sweep.png"},
    "04_own_model_and_data": {"own-model-report/accuracy.png"},
    "05_rules_under_attack": {"under-attack-report/sweep.html", "under-attack-report/sweep-map.png"},
}
CLAIMS = {
    "01_hello": "After: 8",
    "02_non_iid": "★  FedAvg, if all were alike",
    "03_volunteers": "fedbuff  seed 1: 75% after 0.",
    "04_own_model_and_data": "The three of them, together:",
    "05_rules_under_attack": "robust   at worst 8",
}
"""What a reader is to see, in the words that the program prints."""


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_every_program_runs_and_shows_what_it_is_about(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setattr(conduct, "usable_cores", lambda: 1)  # in this process, which has PyTorch already
    with one_thread():  # afterwards as before, whatever the program sets
        runpy.run_path(str(program), run_name="__main__")
    told = capsys.readouterr().out
    assert CLAIMS[program.stem] in told
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written >= WRITES[program.stem]
    assert {name for name in WRITES[program.stem] if name not in told} <= {"hello-report/accuracy.png"}


def test_the_guide_to_the_examples_names_each_of_them() -> None:
    guide = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".toml", ".ipynb")}
    assert {name for name in names if f"]({name})" not in guide} == set()
    assert len(PROGRAMS) == 5
