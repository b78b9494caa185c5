"""Duties: run in order, again and again, each for itself."""

import threading
from collections.abc import Callable
from functools import partial

import pytest
from structlog.testing import capture_logs

from fed_compute.coordinator.bell import Bell
from fed_compute.coordinator.worker import Duty, Worker

LONG = 30.0
"""Far longer than any test: whoever waits so long is woken before."""


def once(act: Callable[[], None]) -> Callable[[], bool]:
    """Return a duty that does something when it is first run."""
    done: list[bool] = []

    def run() -> bool:
        if done:
            return False
        done.append(True)
        act()
        return True

    return run


class Watched:
    """A duty that tells when it was run."""

    def __init__(self) -> None:
        self.runs = 0
        self.errors: list[Exception] = []
        self._news = threading.Condition()

    def run(self) -> bool:
        with self._news:
            self.runs += 1
            self._news.notify_all()
        if self.errors:
            raise self.errors[0]
        return False

    def wait_for(self, runs: int) -> None:
        """Return when it was run so often."""
        with self._news:
            assert self._news.wait_for(lambda: self.runs >= runs, timeout=LONG), f"{self.runs} runs, wanted {runs}"


def test_duties_are_run_in_their_order_and_say_whether_there_was_anything() -> None:
    order: list[str] = []
    duties = [Duty(name, once(partial(order.append, name))) for name in ("first", "second", "third")]
    worker = Worker(duties, Bell())
    assert worker.run_once()
    assert not worker.run_once()
    assert order == ["first", "second", "third"]


def test_run_once_hides_no_failure() -> None:
    watched = Watched()
    watched.errors.append(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        Worker([Duty("watched", watched.run)], Bell()).run_once()


def test_a_ring_wakes_the_worker() -> None:
    watched, bell = Watched(), Bell()
    worker = Worker([Duty("watched", watched.run)], bell, idle_seconds=LONG)
    worker.start()
    for runs in (1, 2, 3):
        watched.wait_for(runs)
        bell.ring()
    worker.stop()


def test_without_news_the_worker_looks_again_all_the_same() -> None:
    """Time passes without a commit: leases run out, deadlines come."""
    watched = Watched()
    worker = Worker([Duty("watched", watched.run)], Bell(), idle_seconds=0.001)
    worker.start()
    watched.wait_for(3)
    worker.stop()


def test_a_duty_that_fails_does_not_stop_the_others_and_is_tried_again() -> None:
    broken, healthy = Watched(), Watched()
    broken.errors.append(OSError("disk"))
    worker = Worker([Duty("broken", broken.run), Duty("healthy", healthy.run)], Bell(), idle_seconds=0.001)
    with capture_logs() as logs:
        worker.start()
        broken.wait_for(2)
        healthy.wait_for(2)
        worker.stop()
    assert worker.failing() == {"broken": "OSError: disk"}
    assert {line["duty"] for line in logs if line["event"] == "duty_failed"} == {"broken"}


def test_a_duty_that_recovers_is_no_longer_reported() -> None:
    watched = Watched()
    watched.errors.append(OSError("disk"))
    worker = Worker([Duty("watched", watched.run)], Bell(), idle_seconds=0.001)
    with capture_logs():
        worker.start()
        watched.wait_for(2)
        watched.errors.clear()
        watched.wait_for(watched.runs + 2)
        worker.stop()
    assert worker.failing() == {}


def test_runs_and_failures_of_a_duty_are_counted() -> None:
    broken, healthy = Watched(), Watched()
    broken.errors.append(OSError("disk"))
    worker = Worker([Duty("broken", broken.run), Duty("healthy", healthy.run)], Bell(), idle_seconds=0.001)
    assert worker.records()["healthy"].runs == 0
    with capture_logs():
        worker.start()
        healthy.wait_for(3)
        worker.stop()
    told = worker.records()
    assert (told["broken"].runs, told["broken"].failures) == (broken.runs, broken.runs)
    assert (told["healthy"].runs, told["healthy"].failures) == (healthy.runs, 0)
    assert told["healthy"].seconds > 0


def test_stopping_waits_for_the_present_duty() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> bool:
        begun.set()
        may_end.wait(LONG)
        ended.set()
        return False

    worker = Worker([Duty("slow", slow)], Bell(), idle_seconds=LONG)
    worker.start()
    assert begun.wait(LONG)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    may_end.set()
    stopping.join(LONG)
    assert ended.is_set()
    assert "coordinator-worker" not in {thread.name for thread in threading.enumerate()}


def test_a_worker_that_never_started_can_be_stopped() -> None:
    Worker([], Bell()).stop()
