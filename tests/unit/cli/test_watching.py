"""What a volunteer reads while the machine works."""

import io

import pytest
from rich.console import Console

from fed_compute.cli.watching import ScreenObserver, describe

URL = "http://coordinator.example"


def test_each_event_is_one_line_with_the_time() -> None:
    screen = io.StringIO()
    observer = ScreenObserver(URL, console=Console(file=screen, width=200), now=lambda: 0.0)
    observer.event("signed_in", client_id="lab-1")
    observer.event("progress", fraction=0.5)
    observer.event("update_accepted", round_id=4, update_id=1, task_id="t", loss=0.5, repeated=False)
    lines = screen.getvalue().splitlines()
    assert [line[10:] for line in lines] == [
        "joined http://coordinator.example as lab-1; Ctrl-C leaves",
        "update accepted in round 4",
    ]
    assert lines[0][2] == lines[0][5] == ":"


def test_waiting_is_said_once() -> None:
    """A client that polls for an hour must not fill the screen."""
    screen = io.StringIO()
    observer = ScreenObserver(URL, console=Console(file=screen, width=200))
    for _ in range(3):
        observer.event("idle", why="waiting")
    assert screen.getvalue().count("nothing to do yet") == 1


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("evaluated", {"model_version": "v3", "num_samples": 9, "loss": 0.25, "accuracy": 0.5}, "accuracy 0.5"),
        ("evaluated", {"model_version": "v3", "num_samples": 9, "loss": 0.25, "accuracy": None}, "loss 0.25"),
        (
            "audited",
            {"round_id": 4, "num_samples": 9, "base_loss": 0.25, "loss": 0.5},
            "an update of round 4 on 9 held-out samples: loss 0.25 without it, 0.5 with it",
        ),
        (
            "audited",
            {"round_id": 4, "num_samples": 9, "base_loss": 0.25, "loss": None},
            "loss 0.25 without it, not a number with it",
        ),
        (
            "task_received",
            {"task": "audit", "round_id": 4, "job": "digits", "model_version": "v3"},
            "round 4 of job digits: auditing an update to v3",
        ),
        ("measuring_failed", {"code": "update_malformed", "why": "no header"}, "update_malformed): no header"),
        ("trained", {"num_samples": 7, "seconds": 1.25, "loss": 2.0, "bytes": 10}, "7 samples in 1.25 s, loss 2"),
        (
            "sending",
            {"bytes": 14_200, "says": {"num_samples": 7, "loss": 0.5}, "norm": 1.0, "norm_trained": 2.5},
            "sending 14.2 kB: num_samples 7, loss 0.5, norm 1 scaled down from 2.5",
        ),
        (
            "sending",
            {"bytes": 10, "says": {"num_samples": 7}, "norm": 2.499, "norm_trained": 2.5},
            "sending 10 B: num_samples 7, norm 2.5",
        ),
        (
            "policy_refused",
            {"job": "digits", "limit": "CLIENT_MIN_COHORT", "why": "too few", "rest": 120.0},
            "your limits refuse this task of job digits: too few; resting 2 min",
        ),
        ("policy_refused", {"job": "digits", "limit": "x", "why": "too few", "rest": 0.0}, "too few"),
        ("resting", {"limit": "CLIENT_HOURS", "why": "it is day"}, "resting: it is day"),
        ("update_refused", {"code": "update_not_finite", "why": "2 values"}, "update_not_finite): 2 values"),
        ("waiting", {"code": "client_pending", "why": "403"}, "until an operator approves"),
        ("waiting", {"code": "storage_busy", "why": "503"}, "cannot answer now: 503"),
        ("idle", {"why": "quota_used"}, "its rounds of the day"),
        ("something_new", {"a": 1}, "something new: a 1"),
    ],
)
def test_events_are_told_in_plain_words(name: str, fields: dict[str, object], said: str) -> None:
    assert said in describe(name, URL, fields)[0]


def test_a_coordinator_s_words_cannot_steer_the_terminal() -> None:
    screen = io.StringIO()
    observer = ScreenObserver(URL, console=Console(file=screen, width=200))
    observer.event("task_over", why="\x1b]0;owned\x07\x1b[2J\rgone")
    observer.event("something\x1b[1m_new", a="\u202eb")
    assert all(line.isprintable() for line in screen.getvalue().splitlines())
    assert "gone" in screen.getvalue()
