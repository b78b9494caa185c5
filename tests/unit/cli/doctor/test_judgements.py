"""What measurements mean, at and around their limits."""

import pytest

from fed_compute.cli.doctor import judgements as judge
from fed_compute.cli.doctor.judgements import Finding, Level

GIB, MIB = 1 << 30, 1 << 20


def level_of(finding: Finding | None) -> str:
    assert finding is not None
    assert bool(finding.advice) is (finding.level is not Level.OK), "what is not well comes with advice"
    return finding.level.value


@pytest.mark.parametrize(("found", "level"), [((3, 10, 9), "bad"), ((3, 11, 0), "ok"), ((4, 0, 0), "ok")])
def test_an_old_python_is_bad(found: tuple[int, int, int], level: str) -> None:
    assert level_of(judge.judge_python(found, wanted=(3, 11))) == level


def test_every_package_that_does_not_fit_is_named() -> None:
    finding = judge.judge_packages({"numpy": ("1.0", False), "typer": (None, False), "rich": ("15", True)})
    assert level_of(finding) == "bad"
    assert finding.found == "numpy 1.0, typer is missing"
    assert level_of(judge.judge_packages({"rich": ("15", True)})) == "ok"


@pytest.mark.parametrize(
    ("free", "files", "level"),
    [(GIB, None, "ok"), (GIB, 1000, "ok"), (GIB - 1, None, "warn"), (100 * MIB - 1, None, "bad"), (GIB, 999, "bad")],
)
def test_room_is_judged_in_bytes_and_in_files(free: int, files: int | None, level: str) -> None:
    finding = judge.judge_space("disk", "/data", free_bytes=free, wanted_bytes=GIB, free_files=files)
    assert level_of(finding) == level


def test_who_wants_little_room_is_not_told_that_there_is_none() -> None:
    assert level_of(judge.judge_space("disk", "/", free_bytes=MIB, wanted_bytes=MIB, free_files=None)) == "ok"


@pytest.mark.parametrize(
    ("available", "level"), [(GIB, "ok"), (GIB - 1, "warn"), (128 * MIB - 1, "bad"), (None, "warn")]
)
def test_memory_is_judged_by_what_is_wanted(available: int | None, level: str) -> None:
    assert level_of(judge.judge_memory(available_bytes=available, wanted_bytes=GIB)) == level


@pytest.mark.parametrize(("year", "level"), [(1970, "bad"), (2024, "bad"), (2025, "ok"), (2100, "ok"), (2101, "bad")])
def test_a_clock_that_was_never_set_is_bad(year: int, level: str) -> None:
    assert level_of(judge.judge_year(year)) == level


@pytest.mark.parametrize(("wall", "level"), [(0.2, "ok"), (0.24, "ok"), (0.3, "warn"), (-5.0, "warn")])
def test_a_clock_that_jumps_is_noticed(wall: float, level: str) -> None:
    assert level_of(judge.judge_pace(wall_seconds=wall, steady_seconds=0.2)) == level


@pytest.mark.parametrize(
    ("skew", "level", "words"),
    [
        (5.0, "ok", "agree"),
        (-5.0, "ok", "agree"),
        (5.1, "warn", "5 seconds behind"),
        (-30.1, "bad", "30 seconds ahead of"),
        (7200.0, "bad", "2.0 hours behind"),
        (None, "warn", "no date"),
    ],
)
def test_clocks_that_differ_are_told_which_way(skew: float | None, level: str, words: str) -> None:
    finding = judge.judge_skew(skew_seconds=skew)
    assert level_of(finding) == level
    assert words in finding.found
    assert ("wrong clock" in finding.found) is (level == "bad")


@pytest.mark.parametrize(("state", "level"), [(True, "ok"), (False, "warn"), (None, "ok")])
def test_a_clock_that_nobody_sets_is_worth_a_word(state: bool | None, level: str) -> None:
    assert level_of(judge.judge_time_service(state)) == level


@pytest.mark.parametrize(("days", "level"), [(14.0, "ok"), (13.9, "warn"), (0.0, "warn")])
def test_a_certificate_that_ends_soon_is_worth_a_word(days: float, level: str) -> None:
    assert level_of(judge.judge_certificate(seconds_left=days * 86_400)) == level


@pytest.mark.parametrize(
    ("lowest", "highest", "level", "words"),
    [(1, 1, "ok", "both"), (1, 3, "ok", "both"), (2, 3, "bad", "upgrade"), (0, 0, "bad", "coordinator's version")],
)
def test_whoever_is_older_has_to_move(lowest: int, highest: int, level: str, words: str) -> None:
    finding = judge.judge_protocol(spoken=1, lowest=lowest, highest=highest)
    assert level_of(finding) == level
    assert words in finding.found + finding.advice


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("inv_0123456789_x", "invitation"),
        ("sk_0123456789_x", "checksum"),
        ("password", "no key"),
    ],
)
def test_each_way_of_being_no_key_is_named(text: str, words: str) -> None:
    finding = judge.judge_key_form("key", text, is_whole=False)
    assert level_of(finding) == "bad"
    assert finding is not None
    assert words in finding.found
    assert not text or text not in finding.found + finding.advice
    assert judge.judge_key_form("key", text, is_whole=True) is None


def test_an_answer_that_says_nothing_of_the_key_is_no_verdict() -> None:
    finding = judge.judge_key_answer("key", "internal_error")
    assert level_of(finding) == "warn"
    assert "internal_error" in finding.found


def test_every_wrong_variable_is_named_and_every_unknown_one_has_a_neighbour() -> None:
    findings = judge.judge_settings([("A", "no number"), ("B", "too large")], unknown=[("C", "CC"), ("D", None)])
    assert [(one.level.value, one.found[0]) for one in findings] == [
        ("bad", "A"), ("bad", "B"), ("warn", "C"), ("warn", "D"),
    ]  # fmt: skip
    assert "CC" in findings[2].advice
    assert [level_of(one) for one in judge.judge_settings([], unknown=[])] == ["ok"]


def test_a_folder_of_another_user_is_bad_unless_one_is_root() -> None:
    assert level_of(judge.judge_owner("folder", "/data", owner_id=5, own_id=7)) == "bad"
    assert judge.judge_owner("folder", "/data", owner_id=5, own_id=5) is None
    assert judge.judge_owner("folder", "/data", owner_id=5, own_id=0) is None


@pytest.mark.parametrize(("mode", "is_safe"), [(0o600, True), (0o400, True), (0o640, False), (0o604, False)])
def test_a_secret_that_others_can_read_is_bad(mode: int, is_safe: bool) -> None:
    finding = judge.judge_secret_modes("folder", {"/data/pepper": mode})
    assert (finding is None) is is_safe
    if finding is not None:
        assert "/data/pepper" in finding.found


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1 << 10, "1.0 KiB"), (5 << 30, "5.0 GiB")]
)
def test_sizes_are_told_for_people(num_bytes: int, text: str) -> None:
    assert judge.size(num_bytes) == text
