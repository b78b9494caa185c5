"""Virtual machines that work for a real coordinator: one clock, one line of events, no thread."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fed_compute.clock import ManualClock
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import BufferBusy, LeaseExpired, RoundOver, UpdateTooStale
from fed_compute.ids import ClientId, RoundId
from fed_compute.protocol.digests import sha256_hex
from fed_compute.rounds.records import TaskState
from fed_compute.simulator.fleet.setting import Machine, Setting

Train = Callable[[Assignment], bytes]
"""Do the work of a task and return the update as it is sent."""

TASK_JITTER = 0.1
"""Task times of one machine differ by so much in both directions."""


@dataclass(slots=True)
class Tally:
    """What became of the work so far."""

    updates: int = 0
    staleness_sum: int = 0
    late: int = 0
    vanished: int = 0
    contributors: int = 0


@dataclass(frozen=True, slots=True)
class _Shift:
    """One machine at work on one task; times are Unix seconds."""

    machine: Machine
    work: Assignment
    began: float
    ends: float

    def progress(self, now: float) -> float:
        """Return how much of the work is done, from 0 to 1."""
        return (now - self.began) / (self.ends - self.began)


class World:
    """Moves the clock from event to event. Machines that have nothing to do wait on the line, as with a long poll."""

    def __init__(
        self, core: Coordinator, clock: ManualClock, setting: Setting, train: Train, rng: np.random.Generator
    ) -> None:
        self._core = core
        self._clock = clock
        self._setting = setting
        self._train = train
        self._rng = rng
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._num_events = 0
        self._keys: dict[ClientId, str] = {}
        self._counted_in: dict[ClientId, RoundId] = {}
        self._waiting: dict[ClientId, Machine] = {}
        self._has_duties = False
        self.tally = Tally()

    def join(self, machines: list[Machine]) -> None:
        """Let machines register and ask for work."""
        for machine in machines:
            _, self._keys[machine.name] = self._core.auth.register(machine.name)
            self._waiting[machine.name] = machine
        self._beat()
        self._hand_out()

    def step(self) -> None:
        """Let the next thing happen, and whatever the coordinator makes of it if it was more than a heartbeat."""
        at, _, act = heapq.heappop(self._events)
        self._clock.advance(max(0.0, at - self._clock.now()))
        act()
        if self._has_duties:
            self._has_duties = False
            while self._core.worker.run_once():
                pass
            self._hand_out()

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._num_events += 1  # of two things at one moment, the one that was planned first
        heapq.heappush(self._events, (self._clock.now() + seconds, self._num_events, act))

    def _beat(self) -> None:
        """Be present: who waits on the line is seen, and time alone ends leases and rounds."""
        for name in self._waiting:
            self._core.presence.note(name)
        self._has_duties = True
        self._after(self._core.settings.heartbeat_seconds, self._beat)

    def _hand_out(self) -> None:
        """Let those who wait ask, in any order, until there is no work left for somebody who could take it."""
        job_id = self._core.jobs.default().job_id
        with self._core.store.snapshot() as records:
            live = records.rounds.live(job_id)
        if live is None:
            return
        able = [machine for name, machine in self._waiting.items() if self._counted_in.get(name) != live.round_id]
        for place in self._rng.permutation(len(able)):
            machine = able[int(place)]
            found = self._core.tasks.next_task(machine.name, evaluates=False)
            if not isinstance(found, Assignment):
                return
            del self._waiting[machine.name]
            self._begin(machine, found)

    def _begin(self, machine: Machine, work: Assignment) -> None:
        seconds = machine.task_seconds * self._rng.uniform(1 - TASK_JITTER, 1 + TASK_JITTER)
        ends = self._clock.now() + seconds
        if self._rng.random() < self._setting.dropout:
            self.tally.vanished += 1
            stops = self._clock.now() + seconds * self._rng.random()
            self._work_on(_Shift(machine, work, self._clock.now(), ends), until=stops, then=self._vanish)
        else:
            self._work_on(_Shift(machine, work, self._clock.now(), ends), until=ends, then=self._answer)

    def _work_on(self, shift: _Shift, *, until: float, then: Callable[[_Shift], None]) -> None:
        """Send heartbeats until the work stops, or until one is answered with `abort`."""
        pause = self._core.settings.heartbeat_seconds
        if until - self._clock.now() <= pause:
            self._after(until - self._clock.now(), lambda: then(shift))
            return

        def beat() -> None:
            name, now = shift.machine.name, self._clock.now()
            self._core.presence.note(name)
            task = self._core.tasks.heartbeat(name, shift.work.task.task_id, progress=shift.progress(now))
            if task.state is TaskState.LEASED:
                self._work_on(shift, until=until, then=then)
            else:
                self.tally.late += 1
                self._waiting[name] = shift.machine

        self._after(pause, beat)

    def _vanish(self, shift: _Shift) -> None:
        machine = shift.machine
        self._after(self._setting.away_seconds, lambda: self._waiting.update({machine.name: machine}))

    def _answer(self, shift: _Shift) -> None:
        """Train for real, and send the update as often as it takes."""
        self._send(shift.machine, shift.work, self._train(shift.work))

    def _send(self, machine: Machine, work: Assignment, body: bytes) -> None:
        pipeline, task_id = self._core.pipeline, work.task.task_id
        path = self._core.blobs.incoming(task_id)
        try:
            admission = pipeline.admit(self._keys[machine.name], task_id)
            path.write_bytes(body)
            update = pipeline.accept_file(admission, path, sha256_hex(body)).update
        except BufferBusy as busy:
            self._after(busy.retry_after_seconds, lambda: self._send(machine, work, body))
            return
        except (RoundOver, LeaseExpired, UpdateTooStale):
            self.tally.late += 1
        else:
            self.tally.contributors += machine.name not in self._counted_in
            self._counted_in[machine.name] = update.round_id
            self.tally.updates += 1
            with self._core.store.snapshot() as records:
                self.tally.staleness_sum += records.rounds.get(update.round_id).base_version - update.base_version
        self._core.presence.note(machine.name)
        self._waiting[machine.name] = machine
        self._has_duties = True
