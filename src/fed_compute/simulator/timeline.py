"""What is going to happen, in order of time."""

import heapq
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from fed_compute.client.behavior import Course
from fed_compute.ids import ClientId, RoundId
from fed_compute.rounds.records import Task


class Kind(IntEnum):
    """What happens. Of two things at one moment, the lower comes first, then the one that was planned first."""

    ARRIVE = 0
    BEAT = 1
    VANISH = 2
    FREE = 3
    MEASURED = 4
    LOOK = 5


class Piece(NamedTuple):
    """What a client trains in a round, from a version of the job: what comes of it does not depend on the lease."""

    client: int
    client_id: ClientId
    round_id: RoundId
    round_number: int
    base_version: int


@dataclass(slots=True, eq=False)
class Shift:
    """One client at work on one lease, from `began`, Unix seconds. `is_stopped`: it gave the work up."""

    client: int
    task: Task
    round_number: int
    began: float
    course: Course
    is_stopped: bool = False

    @property
    def arrives_at(self) -> float:
        """When its update would arrive."""
        return self.began + self.course.seconds

    @property
    def piece(self) -> Piece:
        """What its client trains."""
        task = self.task
        return Piece(self.client, task.client_id, task.round_id, self.round_number, task.base_version)


class Event(NamedTuple):
    """Something at a moment, Unix seconds; `shift` is whose it is, None for a look of the coordinator's.

    Events are in order of time, then as `Kind` says. No two have one number, so shifts are never compared.
    """

    at: float
    kind: Kind
    number: int
    shift: Shift | None = None


class Timeline:
    """A queue by time. Looks are planned at multiples of `look_seconds` only, each once."""

    def __init__(self, *, look_seconds: float) -> None:
        self._look_seconds = look_seconds
        self._events: list[Event] = []
        self._looks: set[float] = set()
        self._planned = 0

    def plan(self, at: float, kind: Kind, shift: Shift) -> None:
        """Let something happen to a shift."""
        self._planned += 1
        heapq.heappush(self._events, Event(at, kind, self._planned, shift))

    def plan_end(self, shift: Shift, kind: Kind) -> None:
        """Plan how a shift ends: as `kind` says, or with its client gone."""
        if shift.course.lost_after is None:
            self.plan(shift.arrives_at, kind, shift)
        else:
            self.plan(shift.began + shift.course.lost_after, Kind.VANISH, shift)

    def look(self, not_before: float) -> None:
        """Let the coordinator look at its leases and rounds at the next time for it."""
        at = (not_before // self._look_seconds + 1) * self._look_seconds
        if at not in self._looks:
            self._looks.add(at)
            self._planned += 1
            heapq.heappush(self._events, Event(at, Kind.LOOK, self._planned))

    def next(self) -> Event | None:
        """Take the next event out; None if nothing is planned."""
        if not self._events:
            return None
        event = heapq.heappop(self._events)
        if event.kind is Kind.LOOK:
            self._looks.discard(event.at)
        return event

    def arrivals(self, most: int, *, until: float, over_measurements: bool) -> list[Shift]:
        """Take out at most so many arrivals, up to a moment, that come before anything else.

        With `over_measurements` those between them are left where they are, to be late by no more than that.
        """
        return self._take(Kind.ARRIVE, most, until=until, over=Kind.MEASURED if over_measurements else None)

    def measurements(self, *, until: float) -> list[Shift]:
        """Take out the measurements, up to a moment, that come before anything else."""
        return self._take(Kind.MEASURED, len(self._events), until=until)

    def later_arrivals(self) -> list[Shift]:
        """Return the arrivals that are still to come, first come first, and leave them where they are."""
        waiting = [event for event in self._events if event.kind is Kind.ARRIVE]
        return [event.shift for event in sorted(waiting) if event.shift is not None and not event.shift.is_stopped]

    def _take(self, kind: Kind, most: int, *, until: float, over: Kind | None = None) -> list[Shift]:
        found: list[Shift] = []
        passed: list[Event] = []
        while len(found) < most and self._events and self._events[0].kind in (kind, over):
            if self._events[0].at > until:
                break
            event = heapq.heappop(self._events)
            if event.kind is not kind:
                passed.append(event)
            elif event.shift is not None and not event.shift.is_stopped:
                found.append(event.shift)
        for event in passed:
            heapq.heappush(self._events, event)
        return found
