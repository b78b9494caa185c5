"""A round as a time line: when each lease was given, heard of and ended, in parts of the time that is shown."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fed_compute.rounds.records import Entry, Round, Task, TaskState

NOTED_KINDS = ("update_refused", "update_late")
"""Kinds of journal entries that tell what a lease itself does not."""

_ENDINGS = {
    TaskState.REPORTED: "reported",
    TaskState.EXPIRED: "expired",
    TaskState.RELEASED: "given back",
    TaskState.CANCELLED: "taken back",
    TaskState.LATE: "taken back",
    TaskState.OVERDUE: "expired",
}
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400)
_MOST_TICKS = 6


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment of a lease. `place` is from 0 to 1 on the line, `seconds` since its beginning."""

    kind: str
    place: float
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """One lease on the line, from `began` to `ended`, with its moments in order."""

    task: Task
    began: float
    ended: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """A line of `seconds`. `deadline` and `closed` are places on it, None where they are not on it."""

    seconds: float
    ticks: tuple[tuple[float, float], ...]
    deadline: float | None
    closed: float | None
    spans: tuple[Span, ...]


def timeline_of(round_: Round, tasks: Sequence[Task], entries: Sequence[Entry], *, now: float) -> Timeline:
    """Return the line of some leases of a round; `entries` are of `NOTED_KINDS`, others are passed over.

    It begins with the round, or its first lease, and lasts until the round is over or `now`; leases that outlive
    their round, and updates that came late, make it longer.
    """
    noted: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.task_id is not None and entry.kind in NOTED_KINDS:
            noted[entry.task_id].append(entry)
    start = min([round_.started_at or round_.opened_at, *(task.leased_at for task in tasks)])
    ends = [round_.closed_at or now, *(task.ended_at or now for task in tasks)]
    ends += [entry.at for task in tasks for entry in noted[task.task_id]]
    scale = _Scale(start, max(1e-3, max(ends) - start))
    return Timeline(
        seconds=scale.seconds,
        ticks=_ticks(scale.seconds),
        deadline=scale.place_within(round_.deadline),
        closed=scale.place_within(round_.closed_at),
        spans=tuple(_span(task, noted[task.task_id], scale, now=now) for task in tasks),
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    start: float
    seconds: float

    def place(self, moment: float) -> float:
        return min(1.0, max(0.0, (moment - self.start) / self.seconds))

    def place_within(self, moment: float | None) -> float | None:
        return None if moment is None or not 0 <= moment - self.start <= self.seconds else self.place(moment)

    def mark(self, kind: str, moment: float, detail: str = "") -> Mark:
        return Mark(kind, self.place(moment), max(0.0, moment - self.start), detail)


def _span(task: Task, noted: Sequence[Entry], scale: _Scale, *, now: float) -> Span:
    marks = [scale.mark("assigned", task.leased_at)]
    is_heard = task.progress_at <= now if task.ended_at is None else task.progress_at < task.ended_at
    if task.leased_at < task.progress_at and is_heard:
        marks.append(scale.mark("heartbeat", task.progress_at, f"{task.progress:.0%}" if task.progress < 1 else ""))
    if task.ended_at is not None and task.state in _ENDINGS:
        marks.append(scale.mark(_ENDINGS[task.state], task.ended_at))
    for entry in noted:
        kind = "refused" if entry.kind == "update_refused" else "late"
        marks.append(scale.mark(kind, entry.at, str(json.loads(entry.payload).get("code", ""))))
    marks.sort(key=lambda mark: mark.seconds)
    return Span(task, scale.place(task.leased_at), scale.place(task.ended_at or now), tuple(marks))


def _ticks(seconds: float) -> tuple[tuple[float, float], ...]:
    """Return (place, seconds) of round numbers, at most six."""
    step = next((step for step in _STEPS if seconds / step < _MOST_TICKS), seconds)
    return tuple((number * step / seconds, number * step) for number in range(int(seconds / step) + 1))
