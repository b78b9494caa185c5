"""What one sees while a demonstration runs."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fed_compute.cli.demo.story import Story
from fed_compute.cli.demo.watch import LineScreen, live_screen, picture
from tests.unit.cli.demo.journal import NAMES, entry, measured, new_story, one_round, opened


def drawn(story: Story, *, width: int, height: int) -> list[str]:
    """Return the lines of the live picture, without colours."""
    screen = io.StringIO()
    console = Console(file=screen, width=width, height=height, force_terminal=False)
    console.print(picture(story, started_at=0.0, now=50.0, width=width, height=height))
    return screen.getvalue().splitlines()


def crowd(num_clients: int, num_rounds: int) -> Story:
    """Return the story of many clients and rounds."""
    names = tuple(f"client-{number}" for number in range(1, num_clients + 1))
    story = Story(names, rounds_total=num_rounds, target_updates=num_clients)
    for number in range(1, num_rounds + 1):
        for one in one_round(number):
            story.take(one)
    return story


def test_the_picture_tells_rounds_progress_and_each_clients_doing() -> None:
    story = new_story(*one_round(1), *(measured(name, 20.0, accuracy=0.925) for name in NAMES), opened(2, 14.0))
    story.url = "http://127.0.0.1:1234"
    lines = drawn(story, width=80, height=24)
    text = "\n".join(lines)
    assert "http://127.0.0.1:1234" in lines[0]
    (first,) = [line.split() for line in lines if line.split()[:2] == ["1", "closed"]]
    assert first[2:5] == ["2/2", "0.500", "0.925"]
    assert first[-2:] == ["13.0", "s"]
    assert "1 of 2" in text
    assert [line.split()[0] for line in lines if line.startswith("client-")] == list(NAMES)
    assert "killed" not in text


def test_deaths_are_shown_once_there_are_any() -> None:
    story = new_story(*one_round(1))
    story.died("client-1")
    assert [line.split()[-2:] for line in drawn(story, width=80, height=24) if line.startswith("client-1")] == [
        ["1", "0"]
    ]


@given(st.integers(1, 50), st.integers(1, 40), st.integers(20, 200), st.integers(1, 80))
def test_the_picture_fits_the_terminal(num_clients: int, num_rounds: int, width: int, height: int) -> None:
    """A picture that is too tall would scroll, and be drawn again and again below itself."""
    lines = drawn(crowd(num_clients, num_rounds), width=width, height=height)
    assert max(len(line.rstrip()) for line in lines) <= width
    if width >= 60:
        assert len(lines) < max(height, 14)


def test_the_newest_rounds_are_shown() -> None:
    lines = drawn(crowd(3, 30), width=80, height=20)
    shown = [int(line.split()[0]) for line in lines if "closed" in line]
    assert shown == list(range(31 - len(shown), 31))
    assert 3 <= len(shown) < 20


def test_the_live_screen_leaves_its_last_picture() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=80, height=24, force_terminal=True)
    with live_screen(console, started_at=0.0, now=lambda: 50.0) as show:
        show(new_story(*one_round(1)))
    assert "1 of 2" in screen.getvalue()


def test_lines_come_once_each_in_order_and_with_final_figures() -> None:
    """A log file wants one line for each round, and only when its figures will not change any more."""
    lines: list[str] = []
    screen = LineScreen(lines.append, started_at=10.0)
    story = new_story(*one_round(1))
    story.url = "http://127.0.0.1:1234"
    screen.show(story)
    screen.show(story)
    assert lines == ["coordinator listening on http://127.0.0.1:1234", "client-1 joined", "client-2 joined"]
    for name in NAMES:
        story.take(measured(name, 20.0, accuracy=0.5))
    screen.show(story)
    screen.show(story)
    assert lines[3:] == ["round 1/2  closed    updates 2  loss 0.500  accuracy 0.500    3.0 s"]


def test_lines_tell_deaths_and_returns() -> None:
    lines: list[str] = []
    screen = LineScreen(lines.append, started_at=0.0)
    story = new_story(*one_round(1))
    screen.show(story)
    story.died("client-2")
    screen.show(story)
    story.restarted("client-2", at=100.0)
    story.take(entry("task_assigned", 101.0, client="client-2", task="train"))
    screen.show(story)
    assert lines[-2:] == ["client-2 killed", "client-2 is back"]


def test_a_round_that_was_given_up_is_told() -> None:
    lines: list[str] = []
    LineScreen(lines.append, started_at=0.0).show(new_story(opened(1, 0.0), entry("round_abandoned", 5.0)))
    assert lines == ["round 1/2  given up  updates 0  loss –  accuracy –    5.0 s"]


@pytest.mark.parametrize(("joined", "said"), [(0, "0 of 2 clients joined"), (1, "1 of 2 clients joined")])
def test_who_is_waited_for_is_told(joined: int, said: str) -> None:
    story = new_story(*(entry("client_registered", client=name, round_id=None) for name in NAMES[:joined]))
    assert said in "\n".join(drawn(story, width=100, height=24))
