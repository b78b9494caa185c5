"""The round machine: one round, one event, what now.

    OPEN ──first lease──▶ COLLECTING ──enough updates──▶ AGGREGATING ──version published──▶ CLOSED
      │                       │                               │
      └───────────────────────┴── deadline with too few, or no usable result ──▶ ABANDONED

A sync round closes as soon as its target is met, or when everybody who is here has reported, and
at the deadline with whatever it has, if that is the minimum. An async round closes as soon as its
minimum is met, or at its maximum duration with at least one update. A fedbuff round closes as soon as
its target is met, whoever is still at work, and at the deadline with its minimum. A round without
clients waits for ever: the deadline starts to run with the first lease, or with the first update of a
lease that began in an earlier round.

While its job is paused a round grants no lease, its deadline stands still, and that nobody is at work is
no reason to close it. Updates still come, and those that it waits for close it. A job that is stopped
takes its live round with it, whatever its state.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from fed_compute.rounds.records import Round, RoundMode, RoundState


@dataclass(frozen=True, slots=True)
class Progress:
    """What a round has got so far. `num_awaited` is how many machines were seen lately and have not reported in it.

    A round that stays as it is would stay so too if more were awaited, and all that matters is whether any are.
    """

    num_updates: int
    num_leased: int
    num_awaited: int


NO_PROGRESS = Progress(0, 0, 0)


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """A client took a task of the round."""


@dataclass(frozen=True, slots=True)
class UpdateArrived:
    """The update of a lease that began in an earlier round is the first thing that happens in this one."""


@dataclass(frozen=True, slots=True)
class Looked:
    """An update came, a lease ended, or time passed: look at the round again."""


@dataclass(frozen=True, slots=True)
class CloseRequested:
    """An operator wants the round closed now."""


@dataclass(frozen=True, slots=True)
class JobPaused:
    """The round's time stands still from now on."""


@dataclass(frozen=True, slots=True)
class JobResumed:
    """The round's time runs on."""


@dataclass(frozen=True, slots=True)
class JobStopped:
    """Nothing will come of the round."""

    reason: str


@dataclass(frozen=True, slots=True)
class VersionPublished:
    """The round's result is stored."""

    version: int


@dataclass(frozen=True, slots=True)
class ResultUnusable:
    """The updates could be folded but not be turned into a model."""

    reason: str


RoundEvent = (
    LeaseGranted
    | UpdateArrived
    | Looked
    | CloseRequested
    | JobPaused
    | JobResumed
    | JobStopped
    | VersionPublished
    | ResultUnusable
)


def depends_on_progress(round_: Round, event: RoundEvent) -> bool:
    """Say whether what an event does to a round depends on its progress; if not, `step` may be told any."""
    return round_.state is RoundState.COLLECTING and isinstance(event, Looked | CloseRequested)


def step(round_: Round, event: RoundEvent, progress: Progress, *, now: float) -> Round:
    """Return the round after `event`. Its state tells what must be done next.

    An event that does not fit the state (a lost race, a repeated message) changes nothing. Terminal
    states are never left.
    """
    match round_.state, event:
        case RoundState.OPEN, LeaseGranted() if round_.is_paused:
            return round_
        case RoundState.OPEN, LeaseGranted() | UpdateArrived():
            deadline = None if round_.is_paused else now + round_.deadline_seconds
            return replace(round_, state=RoundState.COLLECTING, started_at=now, deadline=deadline)
        case RoundState.COLLECTING, Looked() | CloseRequested():
            return _look(round_, progress, now=now, asked=isinstance(event, CloseRequested))
        case RoundState.OPEN | RoundState.COLLECTING, JobPaused():
            return _paused(round_, now=now)
        case RoundState.OPEN | RoundState.COLLECTING, JobResumed():
            return _resumed(round_, now=now)
        case RoundState.OPEN | RoundState.COLLECTING | RoundState.AGGREGATING, JobStopped(reason):
            return _moved(round_, RoundState.ABANDONED, now=now, reason=reason)
        case RoundState.AGGREGATING, VersionPublished(version):
            return replace(round_, state=RoundState.CLOSED, closed_at=now, result_version=version)
        case RoundState.AGGREGATING, ResultUnusable(reason):
            return replace(round_, state=RoundState.ABANDONED, closed_at=now, reason=reason)
    return round_


def _paused(round_: Round, *, now: float) -> Round:
    if round_.is_paused:
        return round_
    left = round_.deadline_seconds if round_.deadline is None else max(0.0, round_.deadline - now)
    return replace(round_, deadline=None, left_seconds=left, gathering_since=None)


def _resumed(round_: Round, *, now: float) -> Round:
    if round_.left_seconds is None:
        return round_
    deadline = None if round_.started_at is None else now + round_.left_seconds
    return replace(round_, deadline=deadline, left_seconds=None)


def _moved(round_: Round, state: RoundState, *, now: float, reason: str | None = None) -> Round:
    """Return the round in a state in which it collects no more, and so waits for nobody either."""
    closed_at = now if state is RoundState.ABANDONED else None
    return replace(_resumed(round_, now=now), state=state, closed_at=closed_at, reason=reason)


def _look(round_: Round, progress: Progress, *, now: float, asked: bool) -> Round:
    overdue = round_.deadline is not None and now >= round_.deadline
    may_close, needed = _RULES[round_.mode](round_, progress, overdue)
    if may_close or (asked and progress.num_updates >= round_.min_updates):
        return _moved(round_, RoundState.AGGREGATING, now=now)
    if overdue:
        reason = f"{progress.num_updates} of at least {needed} updates by the deadline"
        return _moved(round_, RoundState.ABANDONED, now=now, reason=reason)
    return round_


def _sync_rule(round_: Round, progress: Progress, overdue: bool) -> tuple[bool, int]:
    """Target met, or minimum met and nobody else to wait for. Returns (close now, minimum)."""
    enough = progress.num_updates >= round_.min_updates
    full = progress.num_updates >= round_.target_updates
    all_reported = progress.num_leased == 0 and progress.num_awaited == 0 and not round_.is_paused
    return full or (enough and (all_reported or overdue)), round_.min_updates


def _async_rule(round_: Round, progress: Progress, overdue: bool) -> tuple[bool, int]:
    """Minimum met, or maximum duration reached with something. Returns (close now, minimum)."""
    enough = progress.num_updates >= round_.min_updates
    return enough or (overdue and progress.num_updates >= 1), 1


def _fedbuff_rule(round_: Round, progress: Progress, overdue: bool) -> tuple[bool, int]:
    """Target met, or the deadline reached with the minimum. Returns (close now, minimum)."""
    enough = progress.num_updates >= round_.min_updates
    full = progress.num_updates >= round_.target_updates
    return full or (enough and overdue), round_.min_updates


_RULES: dict[RoundMode, Callable[[Round, Progress, bool], tuple[bool, int]]] = {
    RoundMode.SYNC: _sync_rule,
    RoundMode.ASYNC: _async_rule,
    RoundMode.FEDBUFF: _fedbuff_rule,
}
