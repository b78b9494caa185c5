"""The campaign itself: its order, its page, and that it finds and tells what is wrong."""

from collections import Counter
from pathlib import Path

import pytest

from tests.fault.campaign.campaign import Batch, Campaign, batches
from tests.fault.campaign.kinds import Kind
from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.progress import bars
from tests.fault.campaign.report import BEGIN, END, Report, write_into
from tests.fault.campaign.session import Ground
from tests.fault.campaign.soak import Course, slope


def sound(ground: Ground, count: int) -> Outcome:
    """Break nothing."""
    (ground.folder / "file").write_text(f"{ground.rng.random()}")
    return Outcome("sound", trials=count, acknowledged=10 * count)


def losing(ground: Ground, count: int) -> Outcome:
    """Lose an update."""
    return Outcome("losing", trials=count, lost=["update 7"])


def stuck(ground: Ground, count: int) -> Outcome:
    """Do one trial and no more."""
    ground.watch(Outcome("stuck", trials=1))
    raise AssertionError("waited for nothing")


def run(place: Path, *kinds: Kind) -> list[Outcome]:
    """Run each kind three times."""
    wanted = dict.fromkeys(kinds, 3)
    with bars({kind.name: 3 for kind in kinds}) as shown:
        campaign = Campaign(wanted, seed=1, place=place, bars=shown)
        campaign.run(workers=2)
    return list(campaign.outcomes.values())


def test_batches_take_kinds_in_turn_and_each_has_a_seed_of_its_own() -> None:
    few, many = Kind("few", sound, batch=2, total=0), Kind("many", sound, batch=10, total=0)
    made = list(batches({few: 4, many: 25}, seed=2))
    assert [(batch.kind.name, batch.count) for batch in made] == [
        ("few", 2),
        ("many", 10),
        ("many", 10),
        ("few", 2),
        ("many", 5),
    ]
    assert Counter(batch.seed for batch in made).most_common(1)[0][1] == 1
    assert made[0] == Batch(few, 2, 200_001)


def test_a_sound_campaign_leaves_no_folder_and_bounds_the_rate(tmp_path: Path) -> None:
    (outcome,) = run(tmp_path, Kind("sound", sound, batch=2, total=0))
    assert (outcome.trials, outcome.acknowledged, outcome.bound) == (3, 30, 1.0)
    assert list(tmp_path.iterdir()) == []


def test_what_is_lost_is_told_with_its_seed_and_its_folder_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = run(tmp_path, Kind("losing", losing, batch=3, total=0), Kind("stuck", stuck, batch=3, total=0))
    assert [outcome.bound for outcome in outcomes] == [None, None]
    assert Report.of_faults(outcomes).complaints == ["losing: lost: update 7", "stuck: unexpected: waited for nothing"]
    told = capsys.readouterr().err
    assert "losing, seed 100001: see" in told
    assert len(list(tmp_path.iterdir())) == 2


def test_a_report_takes_the_place_of_the_last_one_on_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN.format('faults')}old\n{END.format('faults')}after\n")
    for trials in (10, 1000):
        write_into(page, Report.of_faults([Outcome("kills", trials=trials)]), machine="a machine")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| kills | 1000 | 0 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "0.30%" in text
    assert "30.00%" not in text
    with pytest.raises(ValueError, match="has no lines"):
        write_into(page, Report("soak", (), (), ()), machine="a machine")


def test_the_table_of_starts_has_the_middle_and_the_longest_of_each_sort() -> None:
    report = Report.of_restarts({"imports": [1.0, 1.5, 1.25], "after a kill": [2.0, 4.0]})
    assert report.rows == [["imports", "3", "1.25 s", "1.50 s"], ["after a kill", "2", "3.00 s", "4.00 s"]]
    assert report.complaints == []


def test_a_slope_is_taken_after_the_warm_up() -> None:
    course = Course(minutes=[0, 1, 2, 3, 4, 5, 6], memory_mib=[0, 50, 100, 100.5, 101, 101.5, 102], handles=[9] * 7)
    assert course.mib_per_minute == pytest.approx(0.5)
    assert course.handles_per_minute == 0
    assert slope([1.0], [5.0]) == 0
