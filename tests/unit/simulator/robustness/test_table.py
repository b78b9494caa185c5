"""How the results are written: as Markdown, as JSON, as a picture."""

from pathlib import Path

import pytest

from fed_compute.simulator.attacks import ATTACKS
from fed_compute.simulator.robustness import DEFENCES
from fed_compute.simulator.robustness.picture import BANDS, draw
from fed_compute.simulator.robustness.setting import SPLITS
from fed_compute.simulator.robustness.table import (
    ATTACK_LABELS,
    DEFENCE_LABELS,
    PAPER_ATTACKS,
    SPLIT_LABELS,
    Cell,
    Table,
)

GREY = ((1, 0.299), (3, 0.587), (5, 0.114))
"""Where a colour has its red, green and blue, and how light they are (ITU-R BT.601)."""


def a_table() -> Table:
    """Return a table of two splits, two attacks and two defences."""
    return Table(
        [
            Cell("iid", "none", "fedavg", (97.0, 98.0), 0),
            Cell("iid", "none", "robust", (96.0,), 0),
            Cell("iid", "scaling", "fedavg", (1.04, 1.04), 3),
            Cell("iid", "scaling", "robust", (95.0,), 0),
            Cell("sorted", "none", "fedavg", (90.0,), 0),
            Cell("sorted", "none", "robust", (50.0,), 0),
            Cell("sorted", "scaling", "fedavg", (0.0,), 0),
            Cell("sorted", "scaling", "robust", (100.0,), 0),
        ]
    )


def test_a_cell_is_the_mean_of_its_seeds_and_the_worst_is_the_lowest_attack() -> None:
    table = a_table()
    assert table.mean("iid", "none", "fedavg") == 97.5
    assert table.worst("iid", "robust") == 95.0
    assert table.worst("iid", "robust", ["none"]) == 96.0
    assert table.rows("sorted") == [("no attack", [90.0, 50.0]), ("scaling", [0.0, 100.0]), ("worst", [0.0, 50.0])]


def test_markdown_has_a_table_for_each_kind_of_data_with_the_best_in_bold() -> None:
    text = a_table().to_markdown()
    assert text.startswith("### IID")
    assert "| attack | `fedavg` | `robust` |\n| --- | ---: | ---: |\n| no attack | **97.5** | 96.0 |" in text
    assert "| **worst** | 1.0 | **95.0** |" in text
    assert text.count("| attack |") == 2


def test_what_is_written_as_json_is_read_back() -> None:
    table = a_table()
    assert Table.from_json(table.to_json()).cells == table.cells


def test_every_attack_defence_and_split_has_a_label() -> None:
    assert ATTACK_LABELS.keys() == ATTACKS.keys()
    assert DEFENCE_LABELS.keys() == DEFENCES.keys()
    assert tuple(SPLIT_LABELS) == SPLITS
    assert set(PAPER_ATTACKS) <= ATTACKS.keys()


@pytest.mark.parametrize("splits", [1, 2])
def test_the_picture_is_a_png_with_a_panel_for_each_kind_of_data(tmp_path: Path, splits: int) -> None:
    wanted = a_table().splits[:splits]
    part = Table(cell for cell in a_table().cells if cell.split in wanted)
    draw(part, tmp_path / "a.png", title="A title", subtitle="and more")
    head = (tmp_path / "a.png").read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    width, height = (int.from_bytes(head[start : start + 4], "big") for start in (16, 20))
    assert width > 400
    assert height > 150 * splits


def test_the_worse_the_darker_so_that_the_picture_can_be_read_in_grey() -> None:
    """Some readers print it, and some cannot tell blue from orange."""
    lightness = [sum(int(band.colour[at : at + 2], 16) * part for at, part in GREY) for band in BANDS]
    assert lightness == sorted(lightness, reverse=True)
    assert len(set(lightness)) == len(BANDS)
    assert [band.at_least for band in BANDS] == sorted((band.at_least for band in BANDS), reverse=True)
    assert BANDS[-1].at_least == 0
