"""Virtual clients who work for the real coordinator: one clock, one line of events, no thread.

Leases go out and updates come in by the batch, each update with the moment at which it arrived. Three things that a
real client does are left out because they change nothing here. A client that will report sends no heartbeats and holds
its lease until the hard deadline; one that will vanish sends them, so that its lease ends when it would. Whoever is
idle does not poll, but is asked whenever there is work. And an update that nobody waits for is not trained.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from fed_compute.client.behavior import Course
from fed_compute.clock import ManualClock
from fed_compute.coordinator.bulk import Delivery
from fed_compute.coordinator.pipeline import Accepted
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import BufferBusy, FedComputeError, UpdateRefused
from fed_compute.ids import JobId, RoundId, TaskId
from fed_compute.rounds.records import Round, TaskKind, TaskState, Update
from fed_compute.simulator.ahead import Ahead
from fed_compute.simulator.bodies import AllAreKept, Bodies, EndedAreRemoved
from fed_compute.simulator.hiring import Hiring
from fed_compute.simulator.measuring import Measuring
from fed_compute.simulator.roster import Roster
from fed_compute.simulator.timeline import Kind, Shift, Timeline
from fed_compute.simulator.training import Workshop
from fed_compute.storage.blobs import Bytes

SENT_AT_ONCE, SENT_LAST = 30, 10
"""So many updates are taken in by the coordinator at once, while others train those behind them; the last ones, for
which nobody trains any more, are few."""
REFUSED_REST_SECONDS = 60.0
"""How long a client rests whose update was refused, before it takes new work."""


@dataclass(slots=True)
class Tally:
    """What became of the work since the last round ended. Losses and stalenesses are those of accepted updates."""

    leases: int = 0
    late: int = 0
    vanished: int = 0
    stopped: int = 0
    refused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    staleness: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def take(self, update: Update, num_bytes: int, live: Round | None) -> None:
        """Count an accepted update; `live` is the round that was open when it came."""
        self.bytes_up += num_bytes
        self.losses += [] if update.loss is None else [update.loss]
        self.staleness += [] if live is None else [live.base_version - update.base_version]


class World:
    """Moves the clock from event to event, until the job has finished or nobody will ever work again."""

    def __init__(
        self,
        core: Coordinator,
        clock: ManualClock,
        roster: Roster,
        workshop: Workshop,
        *,
        job: JobId,
        look_seconds: float,
        seed: int,
        keeps_bodies: bool = False,
    ) -> None:
        """Take the coordinator's job; it looks at its leases and rounds every `look_seconds`.

        `keeps_bodies` is for whoever verifies the versions afterwards.
        """
        self._bodies: Bodies = AllAreKept() if keeps_bodies else EndedAreRemoved(core.blobs)
        self._core = core
        self._clock = clock
        self._roster = roster
        self._job_id = job
        self._look_seconds = look_seconds
        self._timeline = Timeline(look_seconds=look_seconds)
        self._ahead = Ahead(core, self._timeline, workshop)
        self._hiring = Hiring(core, self._timeline, roster, workshop, job=job, seed=seed)
        self._measuring = Measuring(core, self._timeline, roster, workshop, job=job, seed=seed)
        self._shifts: dict[TaskId, Shift] = {}
        self._live: Round | None = None
        self._tally = Tally()
        self._ended: list[tuple[RoundId, Tally]] = []
        self.refusals: dict[str, int] = {}

    def begin(self) -> float:
        """Let everybody in, hand out the first work, and return when that was, Unix seconds."""
        self._core.bulk.enrolment.enrol(self._roster.population.names)
        # Registering is a sign of life: wait until nobody counts as present who does not work.
        self._clock.advance(2 * self._core.settings.active_seconds)
        self._roster.delay_starts(began_at := self._clock.now())
        self._live = _live_round(self._core, self._job_id)
        self._fill()
        return began_at

    def step(self) -> bool:
        """Let the next thing happen, and what the coordinator makes of it. Say whether there was anything to happen."""
        goes_on = self._live is not None or self._measuring.is_going_on
        if not goes_on or (event := self._timeline.next()) is None:
            return False
        self._clock.advance(max(0.0, event.at - self._clock.now()))
        shift = event.shift
        if shift is None:
            self._core.tasks.expire_leases()
            self._core.rounds.look_at_all()
            self._measuring.look_again()
            self._follow()
            self._fill()
        elif shift.is_stopped and event.kind is not Kind.FREE:
            return True
        else:
            self._happen(event.kind, shift)
        return True

    def take_ended(self) -> list[tuple[RoundId, Tally]]:
        """Return the rounds that ended since this was last asked, and what became of the work meanwhile."""
        ended, self._ended = self._ended, []
        return ended

    def _happen(self, kind: Kind, shift: Shift) -> None:
        match kind:
            case Kind.ARRIVE:
                until = self._clock.now() + _longest_batch_seconds(self._live, self._look_seconds)
                most, is_full = _room_in(self._core, self._live) - 1, self._hiring.is_full
                more = self._timeline.arrivals(most, until=until, over_measurements=is_full)
                self._deliver([shift, *more])
                self._hand_in(self._timeline.measurements(until=self._clock.now()))
                self._follow()
                self._measure()
            case Kind.MEASURED:
                more = self._timeline.measurements(until=self._clock.now() + self._look_seconds)
                self._hand_in([shift, *more])
                self._fill()
            case Kind.BEAT if _is_heard(self._core, shift, now=self._clock.now()):
                self._timeline.plan(self._clock.now() + self._core.settings.heartbeat_seconds, Kind.BEAT, shift)
            case Kind.BEAT:
                self._leave(shift)
                self._fill()
            case Kind.VANISH:
                self._tally.vanished += shift.task.kind is TaskKind.TRAIN
                away = self._roster.population.device(shift.client).away_seconds
                self._leave(shift, back_at=self._clock.now() + away)
                self._timeline.look(self._clock.now() + 3 * self._core.settings.heartbeat_seconds)
            case Kind.FREE:
                self._tally.stopped += 1
                self._leave(shift)
                self._fill()

    def _leave(self, shift: Shift, *, back_at: float = 0.0) -> None:
        """Let a client put its work down."""
        shift.is_stopped = True
        self._shifts.pop(shift.task.task_id, None)
        self._ahead.forget(shift.piece)
        self._measuring.forget(shift)
        self._roster.free(shift.client, back_at=back_at)

    def _fill(self, *, begins: bool = False) -> None:
        """Hand out what is free to clients who are there: first what is to be measured, then training.

        In a round that `begins` other processes train already while the leases are written.
        """
        self._measure()
        if self._live is None or (asked := self._hiring.ask(self._live)) is None:
            return
        early = asked.pieces()[: self._live.target_updates] if begins else []
        self._ahead.begin_first(early, job=self._job_id)
        hired = self._hiring.grant(asked)
        granted = {shift.piece for shift in hired.shifts} if hired else set()
        for piece in set(early) - granted:
            self._ahead.forget(piece)
        if hired is None:
            return
        self._live = hired.round
        self._shifts |= {shift.task.task_id: shift for shift in hired.shifts}
        self._tally.leases += len(hired.shifts)
        self._tally.bytes_down += hired.num_bytes

    def _hand_in(self, shifts: Sequence[Shift]) -> None:
        if shifts:
            self._clock.advance(max(0.0, shifts[-1].arrives_at - self._clock.now()))
            self._measuring.hand_in(shifts)

    def _measure(self) -> None:
        self._tally.bytes_down += self._measuring.fill()

    def _deliver(self, shifts: Sequence[Shift]) -> None:
        """Send the updates of clients who are done, in the order in which they arrive."""
        self._clock.advance(max(0.0, shifts[-1].arrives_at - self._clock.now()))
        self._ahead.begin(shifts, job=self._job_id, most=_room_in(self._core, self._live))
        for part in _parts(len(shifts)):
            if part.start:
                self._core.publisher.advance()  # folds what has come, while it is in the cache and others train
            self._send(shifts[part])

    def _send(self, shifts: Sequence[Shift]) -> None:
        sent: list[tuple[Shift, Delivery]] = []
        for shift in shifts:
            self._core.presence.note(shift.task.client_id)
            if (made := self._ahead.update(shift)) is None:
                self._give_up(shift, "training_diverged")
            else:
                sent.append((shift, _delivery(shift, made.body)))
        answers = self._core.bulk.pipeline.accept([delivery for _, delivery in sent])
        for (shift, delivery), answer in zip(sent, answers, strict=True):
            self._take_answer(shift, delivery, answer)

    def _give_up(self, shift: Shift, code: str) -> None:
        """Let a client whose work came to nothing give its lease back and rest."""
        self._tally.refused += 1
        self.refusals[code] = self.refusals.get(code, 0) + 1
        self._core.tasks.release(shift.task.client_id, shift.task.task_id)
        self._leave(shift, back_at=self._clock.now() + REFUSED_REST_SECONDS)

    def _take_answer(self, shift: Shift, delivery: Delivery, answer: Accepted | FedComputeError) -> None:
        match answer:
            case BufferBusy():
                waited = self._clock.now() + answer.retry_after_seconds - shift.began
                shift.course = Course(waited)
                self._timeline.plan(shift.arrives_at, Kind.ARRIVE, shift)
                return
            case Accepted(update):
                self._tally.take(update, len(delivery.body), self._live)
                self._bodies.note(update)
                self._roster.report(shift.client, update.round_id)
                self._ahead.settle(shift)
            case UpdateRefused():
                self._tally.bytes_up += len(delivery.body)
                self._give_up(shift, answer.code)
                return
            case _:
                self._tally.late += 1
        self._leave(shift)

    def _follow(self) -> None:
        """Let the coordinator fold and publish; if that ended the round, go on with the next one."""
        before = self._live
        while self._core.publisher.advance():
            pass
        self._core.presence.flush()  # who has just reported is there: the next round may wait for that
        self._live = _live_round(self._core, self._job_id)
        if before is None or (self._live is not None and self._live.round_id == before.round_id):
            if before is not None and before.is_buffer:
                self._fill()
            return
        self._ended.append((before.round_id, self._tally))
        self._tally = Tally()
        self._bodies.let_go(self._live)
        self._measuring.look()
        _stop_idle_work(self._core, self._timeline, self._shifts, now=self._clock.now())
        self._fill(begins=self._live is not None and not self._live.is_buffer)


def _live_round(core: Coordinator, job_id: JobId) -> Round | None:
    with core.store.snapshot() as records:
        return records.rounds.live(job_id)


def _room_in(core: Coordinator, round_: Round | None) -> int:
    """Return how many updates a round can take before it moves on, at least 1."""
    if round_ is None:
        return 1
    with core.store.snapshot() as records:
        return max(1, round_.target_updates - records.updates.count(round_.round_id))


def _parts(count: int) -> list[slice]:
    """Cut so many updates into what is sent at once."""
    last = count - SENT_LAST if count > SENT_AT_ONCE else 0
    return [slice(*ends) for ends in pairwise([*range(0, last, SENT_AT_ONCE), last, count])]


def _longest_batch_seconds(round_: Round | None, look_seconds: float) -> float:
    """Return how long updates may be held for one batch: in buffers each one frees a slot that others look for."""
    return look_seconds if round_ is not None and round_.is_buffer else math.inf


def _delivery(shift: Shift, body: Bytes) -> Delivery:
    return Delivery(shift.task.client_id, shift.task.task_id, body, shift.arrives_at)


def _is_heard(core: Coordinator, shift: Shift, *, now: float) -> bool:
    """Send a heartbeat of a client that is going to vanish; say whether its lease goes on."""
    progress = min(1.0, (now - shift.began) / shift.course.seconds)
    return core.tasks.heartbeat(shift.task.client_id, shift.task.task_id, progress=progress).state is TaskState.LEASED


def _stop_idle_work(core: Coordinator, timeline: Timeline, shifts: Mapping[TaskId, Shift], *, now: float) -> None:
    """Let those whose lease has ended hear of it with their next heartbeat, if they are not done before."""
    pause = core.settings.heartbeat_seconds
    with core.store.snapshot() as records:
        tasks = records.bulk.tasks(list(shifts))
    for task_id, shift in shifts.items():
        hears_at = shift.began + math.ceil((now - shift.began) / pause) * pause
        goes_on = tasks[task_id].state is TaskState.LEASED or shift.course.lost_after is not None
        if not goes_on and hears_at < shift.arrives_at:
            shift.is_stopped = True
            timeline.plan(hears_at, Kind.FREE, shift)
