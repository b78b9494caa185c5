"""The command that makes the tables: it runs, it judges its claims, and the documentation shows what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import robustness
from fed_compute.simulator.attacks import ATTACKS
from fed_compute.simulator.robustness import DEFENCES, Setting
from fed_compute.simulator.robustness.setting import SPLITS
from fed_compute.simulator.robustness.table import Cell, Table
from tests.architecture.source import REPOSITORY

DOCS = REPOSITORY / "docs"


def whole_table(accuracy: float = 95.0) -> Table:
    """Return a table in which every cell is the same."""
    return Table(Cell(s, a, d, (accuracy,), 0) for s in SPLITS for a in ATTACKS for d in DEFENCES)


@pytest.mark.timeout(240)
def test_a_few_cells_are_measured_by_processes_of_their_own(tmp_path: Path) -> None:
    file, command = tmp_path / "out.json", [sys.executable, str(REPOSITORY / "benchmarks" / "robustness.py")]
    words = "--quick --rounds 20 --attacks none,scaling --defences fedavg,robust --workers 2 --json"
    result = subprocess.run([*command, *words.split(), str(file)], capture_output=True, text=True, check=False)
    report = json.loads(file.read_text())
    assert [(cell["attack"], cell["defence"]) for cell in report["cells"]] == [
        ("none", "fedavg"), ("none", "robust"), ("scaling", "fedavg"), ("scaling", "robust"),
    ]  # fmt: skip
    assert [claim["holds"] for claim in report["claims"]] == [False, True], result.stderr
    assert result.returncode == 1  # in 20 rounds nobody learns enough
    assert "FAILS: robust keeps" in result.stdout


def test_the_claims_are_judged_on_even_data_and_published_attacks() -> None:
    claims = robustness.check(whole_table(), robust_at_least=93.0)
    assert [claim["holds"] for claim in claims] == [True, False]
    assert "8 published attacks" in claims[0]["claim"]
    low = Table(
        Cell(cell.split, cell.attack, cell.defence, (10.0,), 0)
        if (cell.split, cell.attack) in (("sorted", "ipm"), ("iid", "free_rider"), ("iid", "scaling"))
        and cell.defence in ("robust", "fedavg")
        and (cell.attack, cell.defence) != ("scaling", "robust")
        else cell
        for cell in whole_table().cells
    )
    assert [claim["holds"] for claim in robustness.check(low, robust_at_least=93.0)] == [True, True]


def test_only_the_whole_table_may_stand_in_the_documentation() -> None:
    whole = whole_table()
    assert robustness.is_whole(whole, Setting())
    assert not robustness.is_whole(whole, Setting(rounds=100))
    assert not robustness.is_whole(Table(cell for cell in whole.cells if cell.attack != "mimic"), Setting())


def test_the_page_gets_the_new_tables_and_keeps_its_words(tmp_path: Path) -> None:
    page = tmp_path / robustness.PAGE
    page.parent.mkdir()
    page.write_text(f"before\n{robustness.BEGIN}old\n{robustness.END}after\n")
    report = {"setting": {"num_attackers": 5, "num_clients": 25, "rounds": 600}, "seeds": 1, "minutes": 3.0,
              "workers": 2, "machine": "a machine"}  # fmt: skip
    for _ in range(2):
        robustness.write_docs(whole_table(), report, tmp_path)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count(whole_table().to_markdown()) == 1
    assert (tmp_path / "pictures" / "robustness.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "pictures" / "robustness.json").read_text()) == report


def test_the_documentation_shows_what_was_measured_and_its_claims_hold() -> None:
    """A table that is edited by hand, or a picture of another run, would be a lie."""
    report = json.loads((DOCS / "pictures" / "robustness.json").read_text())
    table = Table.from_json(report["cells"])
    assert robustness.is_whole(table, Setting(**report["setting"]))
    assert table.to_markdown() in (DOCS / robustness.PAGE).read_text()
    assert robustness.check(table, robust_at_least=robustness.ROBUST_AT_LEAST) == report["claims"]
    assert all(claim["holds"] for claim in report["claims"])
