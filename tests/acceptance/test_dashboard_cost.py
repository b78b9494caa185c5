"""What a page costs must not grow with what is on record: counted in bytes and statements, never in seconds.

`benchmarks/dashboard.py` measures the seconds, with ten thousand clients and a thousand rounds.
"""

from pathlib import Path

import pytest

from benchmarks.dashboard import PAGES, Size, fill, measure
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import open_coordinator

SMALL, LARGE = Size(clients=60, rounds=60, updates=1), Size(clients=180, rounds=180, updates=1)
"""Both have more of everything than fits on one page."""
MOST_BYTES = 60_000
MOST_STATEMENTS = 40


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, int]]]:
    """Return bytes and statements of each page, with little on record and with three times as much."""
    found = []
    for size in (SMALL, LARGE):
        core = open_coordinator(
            load_settings(data_dir=Path(tmp_path_factory.mktemp("cost")), port=0, shutdown_seconds=0.2)
        )
        try:
            found.append(measure(core, fill(core, size), size, turns=1)["pages"])
        finally:
            core.close()
    return found


@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_as_little_of_the_database_however_much_is_on_record(
    measured: list[dict[str, dict[str, int]]], page: str
) -> None:
    small, large = (pages[page]["statements"] for pages in measured)
    assert 0 < large <= MOST_STATEMENTS
    assert large == small


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_as_short_however_much_is_on_record(measured: list[dict[str, dict[str, int]]], page: str) -> None:
    small, large = (pages[page]["bytes"] for pages in measured)
    assert large <= MOST_BYTES
    if page != "charts of a job":  # one that grows, up to the points that a chart can show
        assert large <= 1.05 * small + 200
