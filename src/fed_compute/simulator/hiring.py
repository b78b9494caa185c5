"""Handing out training to virtual clients who are there."""

from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from fed_compute.client.behavior import Course
from fed_compute.coordinator.bulk import Granted
from fed_compute.coordinator.openings import free_slots
from fed_compute.coordinator.recipes import spec_of
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.ids import ClientId, JobId
from fed_compute.rounds.records import Round
from fed_compute.simulator.roster import Roster
from fed_compute.simulator.timeline import Kind, Piece, Shift, Timeline
from fed_compute.simulator.training import Workshop


@dataclass(frozen=True, slots=True)
class Asked:
    """Idle clients for the `free` slots of a round, as they were drawn, how their work would go, who has its model."""

    round: Round
    free: int
    clients: tuple[int, ...]
    courses: dict[ClientId, Course]
    has_model: dict[int, bool]

    def pieces(self) -> list[Piece]:
        """Return what they would train, first come first; nothing of whoever will be lost."""
        round_id, number, base_version = self.round.round_id, self.round.number, self.round.base_version
        work = [
            (course.seconds, Piece(client, name, round_id, number, base_version))
            for client, (name, course) in zip(self.clients, self.courses.items(), strict=True)
            if course.lost_after is None
        ]
        return [piece for _, piece in sorted(work, key=itemgetter(0))]


@dataclass(frozen=True, slots=True)
class Hired:
    """Clients who have begun to work on a round, which is as it is now, and how many bytes they fetch for it."""

    shifts: tuple[Shift, ...]
    round: Round
    num_bytes: int


class Hiring:
    """Asks idle clients to train, as long as the coordinator has free slots, and plans how their work goes.

    `is_full` says whether the last call left no slot: then it does not matter who else is idle.
    """

    def __init__(
        self, core: Coordinator, timeline: Timeline, roster: Roster, workshop: Workshop, *, job: JobId, seed: int
    ) -> None:
        """Take the coordinator's job."""
        self._core = core
        self._timeline = timeline
        self._roster = roster
        self._workshop = workshop
        self._job_id = job
        self._rng = np.random.default_rng([seed, 30])
        self.is_full = False

    def ask(self, live: Round) -> Asked | None:
        """Find clients for what is free in the live round, perhaps nobody; None says that nothing is."""
        now = self._core.clock.now()
        with self._core.store.snapshot() as records:
            free = free_slots(records, live, now=now)
        self.is_full = free == 0
        if self.is_full:
            return None
        clients = tuple(map(int, self._roster.draw(free, now=now, round_id=live.round_id)))
        names = self._roster.population.names
        has_model = {client: self._roster.has_measured(client, live.base_version) for client in clients}
        courses = {
            names[client]: self._workshop.course(client, self._rng, has_model=has_model[client]) for client in clients
        }
        return Asked(live, free, clients, courses, has_model)

    def grant(self, asked: Asked) -> Hired | None:
        """Let them work who get a lease; if too few were there, look again when there are more.

        None says that nobody was given anything.
        """
        hired = self._grant(asked) if asked.clients else None
        self.is_full = hired is not None and len(hired.shifts) == asked.free
        if len(asked.clients) < asked.free:
            now = self._core.clock.now()
            wait = self._roster.seconds_until_anyone(now=now, round_id=asked.round.round_id)
            if wait is not None:
                self._timeline.look(now + wait)
        return hired

    def _grant(self, asked: Asked) -> Hired | None:
        courses = asked.courses
        beating = {name for name, course in courses.items() if course.lost_after is not None}
        granted = self._core.bulk.tasks.grant(list(courses), job=self._job_id, heartbeats=beating)
        if granted is None:
            self._timeline.look(self._core.clock.now())
            return None
        places = dict(zip(courses, asked.clients, strict=True))
        now, number = self._core.clock.now(), granted.round.number
        shifts = [Shift(places[task.client_id], task, number, now, courses[task.client_id]) for task in granted.tasks]
        for shift in shifts:
            self._start(shift)
        if granted.round.deadline is not None:
            self._timeline.look(granted.round.deadline)
        num_models = sum(not asked.has_model[shift.client] for shift in shifts)
        return Hired(tuple(shifts), granted.round, self._fetched_bytes(granted, len(shifts), num_models))

    def _start(self, shift: Shift) -> None:
        self._roster.take([shift.client])
        self._core.presence.note(shift.task.client_id)
        self._timeline.plan_end(shift, Kind.ARRIVE)
        if shift.course.lost_after is not None:
            self._timeline.plan(shift.began + self._core.settings.heartbeat_seconds, Kind.BEAT, shift)
        soft = shift.task.soft_deadline
        if soft is not None and (shift.course.lost_after is not None or soft < shift.arrives_at):
            self._timeline.look(soft)  # from then on somebody else may take its slot

    def _fetched_bytes(self, granted: Granted, num_clients: int, num_models: int) -> int:
        """Return how much is fetched: so many models, and by each client the control variate where there is one."""
        version, has_control = granted.version, spec_of(granted.job).training.control_variates > 0
        num_controls = num_clients if has_control and version.optimizer_digest is not None else 0
        return (num_models + num_controls) * len(self._core.models.get(version.digest))
