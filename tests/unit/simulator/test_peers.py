"""The race against other simulators: it judges its aims by medians, and writes them into the documentation."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import peers
from benchmarks.peers import BARE, FLWR, OURS, PFL, Contender, Run
from tests.architecture.source import REPOSITORY

DOCS = REPOSITORY / "docs"


def found_with(**others: tuple[float, float]) -> dict[str, Any]:
    """Return what is measured if ours trains 1,000 clients a second in 100 MiB, beside others' (speed, memory)."""
    named = {OURS: (1_000.0, 100.0)} | {{"bare": BARE}.get(name, name): value for name, value in others.items()}
    runs = {name: [Run(speed, speed / 2, 0.5)] * 3 for name, (speed, _) in named.items()}
    return {"mlp": peers.summary(runs, {name: memory for name, (_, memory) in named.items()})}


@pytest.mark.parametrize(
    ("others", "missed"),
    [
        ({"bare": (450.0, 50.0), "pfl": (330.0, 70.0), "flwr": (28.0, 101.0)}, []),
        ({"bare": (460.0, 50.0), "pfl": (330.0, 70.0), "flwr": (28.0, 101.0)}, [(BARE, "speed")]),
        ({"bare": (450.0, 50.0), "pfl": (340.0, 66.0), "flwr": (28.0, 101.0)}, [(PFL, "speed"), (PFL, "memory")]),
        ({"flwr": (29.0, 99.0)}, [(FLWR, "speed"), (FLWR, "memory")]),
    ],
)
def test_each_aim_beside_somebody_who_ran_is_judged(
    others: dict[str, tuple[float, float]], missed: list[tuple[str, str]]
) -> None:
    aims = peers.judged(found_with(**others))
    assert {aim["beside"] for aim in aims} == {{"bare": BARE}.get(name, name) for name in others}
    assert [(aim["beside"], aim["what"]) for aim in aims if not aim["is_reached"]] == missed


@pytest.mark.parametrize(
    "contender", [one for found in peers.CONTENDERS.values() for one in found], ids=lambda one: one.name
)
def test_everybody_is_counted_from_one_measurement_to_another(contender: Contender) -> None:
    """So each ten of the rounds that count have one measurement, and all can tell how round 20 went."""
    assert contender.rounds % peers.MEASURE_EVERY == 0
    assert peers.WARM_UP_ROUNDS % peers.MEASURE_EVERY == 0
    assert contender.rounds >= peers.START_ROUNDS > peers.WARM_UP_ROUNDS
    words = contender.command(Path("peers"), Path("data"), contender.rounds)
    assert words[-3:].count(peers.EVERY) == 1


def test_steady_rates_leave_out_the_start_and_rates_with_it_stop_after_the_same_round_for_all() -> None:
    """Ten slow rounds, then a round each second; thirty of them tell the same as forty."""
    for rounds in (30, 40):
        lines = [{"round": n, "at": 100.0 + 90.0 + n, "accuracy": n / 100} for n in range(1, rounds + 1)]
        found = peers.rates(lines, 50, began=100.0)
        assert (found.steady, found.accuracy) == (50.0, 0.2)
        assert found.with_start == pytest.approx(50 * 20 / 110)


def test_one_disturbed_turn_decides_nothing() -> None:
    ours = [Run(speed, speed, 0.5) for speed in (1_000.0, 10.0, 1_000.0)]
    bare = [Run(speed, speed, 0.5) for speed in (400.0, 400.0, 400.0)]
    found = peers.summary({OURS: ours, BARE: bare}, {OURS: 1.0, BARE: 1.0})
    assert found[BARE]["speed_ratio"] == 2.5


def test_the_documentation_shows_the_last_figures_and_no_older_ones() -> None:
    page = (DOCS / peers.PAGE).read_text()
    reports = [
        {
            "machine": "a machine",
            "turns": 3,
            "versions": {PFL: "1.0", FLWR: "2.0"},
            "workloads": (workloads := found_with(bare=(bare, 50.0), pfl=(330.0, 70.0))),
            "aims": peers.judged(workloads),
        }
        for bare in (460.0, 400.0)
    ]
    first, last = peers.with_measured(page, reports[0]), peers.with_measured(page, reports[1])
    assert "| bare, all cores | 460 | 2.17 | 230 | 50 |" in first
    assert "| mlp, speed : bare, all cores | ≥ 2.2 | 2.17 | missed |" in first
    assert peers.with_measured(first, reports[1]) == last
    assert "| mlp, speed : bare, all cores | ≥ 2.2 | 2.50 | reached |" in last
