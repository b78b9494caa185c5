"""Federated evaluation by virtual clients: who measures which version, and what becomes of it."""

import math
from collections.abc import Sequence

import numpy as np

from fed_compute.client.trainer import EvaluationResult
from fed_compute.coordinator.evaluations import Measurement
from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.ids import JobId, TaskId
from fed_compute.learning.vectors import Vector
from fed_compute.protocol.models import decode_model
from fed_compute.rounds.leases import EVALUATION_SECONDS, MISSED_HEARTBEATS
from fed_compute.rounds.records import Task
from fed_compute.simulator.roster import Roster
from fed_compute.simulator.timeline import Kind, Shift, Timeline
from fed_compute.simulator.training import Workshop

DIVERGED_REST_SECONDS = 60.0
"""How long a client rests that had nothing to tell, before it takes new work."""


class Measuring:
    """Asks idle clients to measure the newest version, as long as the coordinator wants more of them to.

    A client that will report within its lease sends no heartbeats: nobody could tell. All that are at work on one
    version are computed when the first of them is done.
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
        self._rng = np.random.default_rng([seed, 32])
        self._num_due = 0
        self._version = 0
        self._at_work: dict[TaskId, Shift] = {}
        self._found: dict[TaskId, EvaluationResult | None] = {}
        self._lease_seconds = max(EVALUATION_SECONDS, MISSED_HEARTBEATS * core.settings.heartbeat_seconds)
        self._lost_until = math.inf

    @property
    def is_going_on(self) -> bool:
        """Whether a client is at work on a measurement."""
        return bool(self._at_work)

    def look(self) -> None:
        """See what the coordinator wants measured: a version was published, or a lease ran out."""
        self._num_due = self._core.bulk.evaluations.num_due(self._job_id)
        if self._num_due:
            with self._core.store.snapshot() as records:
                self._version = records.versions.latest(self._job_id).version

    def fill(self) -> int:
        """Hand out what is due to clients who are there, and return how many bytes they fetch."""
        if self._num_due == 0:
            return 0
        now = self._core.clock.now()
        drawn = self._roster.draw_measurers(self._num_due, now=now, version=self._version)
        asked = [int(client) for client in drawn if self._workshop.can_measure(int(client))]
        num_bytes = self._grant(asked) if asked else 0
        if self._num_due:
            wait = self._roster.seconds_until_measurer(now=now, version=self._version)
            if wait is not None:
                self._timeline.look(now + wait)
        return num_bytes

    def look_again(self) -> None:
        """See once more what is wanted, if the lease of a client that went away has run out meanwhile."""
        if self._core.clock.now() >= self._lost_until:
            self._lost_until = math.inf
            self.look()

    def forget(self, shift: Shift) -> None:
        """Let a client that measures go away; once its lease has run out, another one may be asked."""
        if self._at_work.pop(shift.task.task_id, None) is not None:
            self._found.pop(shift.task.task_id, None)
            self._lost_until = self._core.clock.now() + self._lease_seconds
            self._timeline.look(self._lost_until)

    def hand_in(self, shifts: Sequence[Shift]) -> None:
        """Send the measurements of clients who are done, and let them be idle."""
        self._compute(shifts)
        told: list[Measurement] = []
        for shift in shifts:
            del self._at_work[shift.task.task_id]
            found = self._found.pop(shift.task.task_id)
            if found is None:
                self._core.tasks.release(shift.task.client_id, shift.task.task_id)
                self.look()
                self._roster.free(shift.client, back_at=self._core.clock.now() + DIVERGED_REST_SECONDS)
            else:
                told.append(_measurement(shift, found))
                self._roster.free(shift.client)
        self._core.evaluations.record_all(told)

    def _grant(self, asked: Sequence[int]) -> int:
        names = self._roster.population.names
        places = {names[client]: client for client in asked}
        granted = self._core.bulk.evaluations.grant(list(places), job=self._job_id, heartbeats=places.keys())
        if granted is None:
            return 0
        self._num_due -= len(granted.tasks)
        for task in granted.tasks:
            self._start(places[task.client_id], task, round_number=granted.round.number)
        return len(granted.tasks) * len(self._core.models.get(granted.version.digest))

    def _start(self, client: int, task: Task, *, round_number: int) -> None:
        shift = Shift(client, task, round_number, task.leased_at, self._workshop.measuring_course(client, self._rng))
        self._roster.take([client])
        self._at_work[task.task_id] = shift
        self._core.presence.note(task.client_id)
        self._timeline.plan_end(shift, Kind.MEASURED)
        if shift.course.lost_after is not None or shift.arrives_at >= task.deadline:
            self._timeline.plan(shift.began + self._core.settings.heartbeat_seconds, Kind.BEAT, shift)

    def _compute(self, shifts: Sequence[Shift]) -> None:
        """Measure, for those of these shifts that are not yet, and for all others at work on the same versions."""
        missing = {shift.task.base_version for shift in shifts if shift.task.task_id not in self._found}
        for version in sorted(missing):
            group = [
                shift
                for shift in self._at_work.values()
                if shift.task.base_version == version
                and shift.task.task_id not in self._found
                and shift.course.lost_after is None
            ]
            results = self._workshop.measure(self._parameters(version), [shift.client for shift in group])
            self._found |= {shift.task.task_id: found for shift, found in zip(group, results, strict=True)}

    def _parameters(self, number: int) -> Vector:
        with self._core.store.snapshot() as records:
            job, version = records.jobs.get(self._job_id), records.versions.get(self._job_id, number)
        return decode_model(self._core.models.get(version.digest), schema_of(job))


def _measurement(shift: Shift, found: EvaluationResult) -> Measurement:
    task = shift.task
    return Measurement(task.client_id, task.task_id, found.num_samples, found.loss, found.accuracy, at=shift.arrives_at)
