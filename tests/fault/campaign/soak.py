"""Many clients on one coordinator for a long time: memory and handles stay flat, and nobody is refused."""

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2
import numpy as np

from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.session import Ground, Job, Session, session

ROUND_SECONDS = 30.0
SAMPLE_SECONDS = 3.0
WARM_UP_SHARE, LONGEST_WARM_UP_SECONDS = 1 / 3, 600.0
MOST_MIB_PER_MINUTE = 1.0
MOST_HANDLES_PER_MINUTE = 1.0
NOT_NOW = frozenset({503, 507})
"""With `Retry-After`, or the client complains."""


@dataclass
class Course:
    """What was measured, sample by sample, and what clients heard."""

    minutes: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)
    ask_seconds: list[float] = field(default_factory=list)
    """How long a small question that reads the records took."""
    accept_seconds: list[float] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    rounds: int = 0

    def after_warm_up(self) -> slice:
        """Return the samples after the warm-up: a third of the time, at most ten minutes."""
        warm_up_minutes = min(self.minutes[-1] * WARM_UP_SHARE, LONGEST_WARM_UP_SECONDS / 60)
        return slice(int(np.searchsorted(self.minutes, warm_up_minutes)), None)

    @property
    def mib_per_minute(self) -> float:
        """The slope of the resident memory after the warm-up, by least squares."""
        return slope(self.minutes[self.after_warm_up()], self.memory_mib[self.after_warm_up()])

    @property
    def handles_per_minute(self) -> float:
        """The slope of the open files and sockets after the warm-up, by least squares."""
        return slope(self.minutes[self.after_warm_up()], self.handles[self.after_warm_up()])

    def failures(self) -> dict[int, int]:
        """Return how often each status came that says neither yes nor no nor not now."""
        return {status: count for status, count in self.answers.items() if status >= 500 and status not in NOT_NOW}

    def samples(self) -> list[tuple[float, float, int]]:
        """Return minute, memory in MiB and open handles, sample by sample."""
        pairs = zip(self.minutes, self.memory_mib, self.handles, strict=True)
        return [(round(minute, 2), round(memory, 1), handles) for minute, memory, handles in pairs]

    def facts(self) -> dict[str, object]:
        """Return what a table says of the course."""
        settled, handles = self.memory_mib[self.after_warm_up()], self.handles[self.after_warm_up()]
        return {
            "minutes": round(self.minutes[-1], 1),
            "rounds closed": self.rounds,
            "memory after the warm-up, MiB": f"{min(settled):.0f} to {max(settled):.0f}",
            "its slope by least squares, MiB a minute": round(self.mib_per_minute, 3),
            "open handles after the warm-up": f"{min(handles)} to {max(handles)}",
            "their slope, a minute": round(self.handles_per_minute, 3),
            "a small question, p50 / p99, ms": percentiles_ms(self.ask_seconds),
            "an update until its answer, p50 / p99, ms": percentiles_ms(self.accept_seconds),
            "answers": sum(self.answers.values()),
            "of them 503, come back later": self.answers[503],
            "other answers 5xx": sum(self.failures().values()),
        }


def slope(xs: list[float], ys: list[float] | list[int]) -> float:
    """Return the slope of the least-squares line through points; 0 through fewer than two."""
    return statistics.linear_regression(xs, ys).slope if len(xs) > 1 else 0.0


def percentiles_ms(seconds: list[float]) -> str:
    """Return the middle and the 99th percentile, in milliseconds."""
    if not seconds:
        return "–"
    return f"{np.percentile(seconds, 50) * 1000:.0f} / {np.percentile(seconds, 99) * 1000:.0f}"


def soak(
    ground: Ground,
    *,
    minutes: float,
    clients: int,
    num_inputs: int = 2500,
    tell: Callable[[float], None] = lambda seconds: None,
) -> tuple[Outcome, Course]:
    """Let clients train for most of a round each, round after round, and watch the process.

    Args:
        num_inputs: a fortieth of the model's parameters.
        tell: called with the seconds that are over.
    """
    job = Job(inputs=num_inputs, outputs=40, target=max(2, clients * 3 // 4), deadline_seconds=ROUND_SECONDS)
    calm = {"FED_COMPUTE_HEARTBEAT_SECONDS": "10"}
    course = Course()
    with session("soak", ground, clients=0, job=job, environment=calm, rounds_after=0) as running:
        running.employ(
            clients, train_seconds=(0.1 * ROUND_SECONDS, 0.8 * ROUND_SECONDS), poll_seconds=20.0, timeout_seconds=40.0
        )
        _watch(running, course, minutes, tell)
        course.rounds = running.version() - 1
    for client in running.clients:
        course.accept_seconds += client.memory.accept_seconds
        course.answers += client.memory.answers
    _judge(running.outcome, course)
    return running.outcome, course


def _watch(running: Session, course: Course, minutes: float, tell: Callable[[float], None]) -> None:
    began = time.monotonic()
    while (spent := time.monotonic() - began) < minutes * 60:
        course.minutes.append(spent / 60)
        course.memory_mib.append(running.server.memory_mib())
        course.handles.append(running.server.num_handles())
        asked = time.monotonic()
        try:
            course.answers[running.server.get("/").status_code] += 1
        except httpx2.TransportError as error:
            running.outcome.unexpected.append(f"no answer to GET /: {error!r}")
        course.ask_seconds.append(time.monotonic() - asked)
        tell(spent)
        time.sleep(SAMPLE_SECONDS)


def _judge(outcome: Outcome, course: Course) -> None:
    """Add to an outcome what a soak must not show."""
    outcome.trials += course.rounds
    if course.mib_per_minute >= MOST_MIB_PER_MINUTE:
        outcome.unexpected.append(f"the memory grew by {course.mib_per_minute:.2f} MiB a minute")
    if course.handles_per_minute >= MOST_HANDLES_PER_MINUTE:
        outcome.unexpected.append(f"the open handles grew by {course.handles_per_minute:.2f} a minute")
    if failures := course.failures():
        outcome.unexpected.append(f"answers 5xx: {failures}")
