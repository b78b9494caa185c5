"""What the owner wants of a running client, through crashes of either side."""

from pathlib import Path

import pytest

from fed_compute.client.wishes import LOOK_SECONDS, Wish, Wishes, pause_reason, read_wish, write_wish
from fed_compute.clock import ManualClock
from fed_compute.errors import StateUnusable
from tests.unit.client.parts import RUN, folder_in, wishes_in


def test_without_a_word_a_client_goes_on(tmp_path: Path) -> None:
    wishes = wishes_in(tmp_path, ManualClock())
    assert (wishes.pause(), wishes.is_finishing()) == (None, False)


def test_a_pause_holds_until_it_is_taken_back_and_also_for_the_next_start(tmp_path: Path) -> None:
    clock, file = ManualClock(), folder_in(tmp_path).wish
    wishes = wishes_in(tmp_path, clock)
    write_wish(file, Wish("pause"))
    clock.advance(LOOK_SECONDS)
    assert wishes.pause() == Wish("pause")
    assert Wishes(file, clock, run="another").pause() == Wish("pause")
    write_wish(file, Wish())
    clock.advance(LOOK_SECONDS)
    assert wishes.pause() is None


def test_a_pause_for_a_time_ends_by_itself(tmp_path: Path) -> None:
    clock, file = ManualClock(), folder_in(tmp_path).wish
    write_wish(file, Wish("pause", until=clock.now() + 60))
    wishes = wishes_in(tmp_path, clock)
    clock.advance(59)
    assert wishes.pause() is not None
    clock.advance(1)
    assert wishes.pause() is None


def test_a_finish_is_for_one_run_only(tmp_path: Path) -> None:
    """A client that was killed after the wish would else end at once at each later start."""
    clock, file = ManualClock(), folder_in(tmp_path).wish
    write_wish(file, Wish("finish", run=RUN))
    assert wishes_in(tmp_path, clock).is_finishing()
    assert not Wishes(file, clock, run="the next").is_finishing()
    assert wishes_in(tmp_path, clock).pause() is None


def test_a_client_looks_no_more_often_than_it_needs(tmp_path: Path) -> None:
    """It asks after each batch, and some take a millisecond."""
    clock, file = ManualClock(), folder_in(tmp_path).wish
    wishes = wishes_in(tmp_path, clock)
    assert wishes.pause() is None
    write_wish(file, Wish("pause"))
    clock.advance(LOOK_SECONDS / 2)
    assert wishes.pause() is None
    clock.advance(LOOK_SECONDS / 2)
    assert wishes.pause() is not None


@pytest.mark.parametrize("content", ["", "{", '{"kind": "stop"}', "[]", '{"kind": "pause", "until": "tomorrow"}'])
def test_a_wish_that_cannot_be_understood_is_never_taken_for_go_on(tmp_path: Path, content: str) -> None:
    file = folder_in(tmp_path).wish
    file.write_text(content)
    with pytest.raises(StateUnusable, match=r"wish\.json"):
        read_wish(file)


def test_a_pause_says_how_it_ends() -> None:
    assert pause_reason(Wish("pause")) == "you paused this client; fed-compute resume goes on"
    assert "until" in pause_reason(Wish("pause", until=1_700_000_000.0))
