"""One seed, one history: volunteers, their network, mishaps and a coordinator, until nothing is left open.

Time is virtual. An operation is a request that reached the coordinator, a pass of its duties, or a mishap. Whatever
happened, every history ends in the same way: the weather clears, who does not know what became of its update sends it
once more, the power is cut with everything unsynced lost, the machine starts, every round ends, days pass, and the
judges look.
"""

import random
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fed_compute.clock import ManualClock
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.protocol.job import Compression, Encoding
from fed_compute.rounds.records import UpdateState
from tests.fault.simulated.agenda import Agenda
from tests.fault.simulated.exchange import Answer
from tests.fault.simulated.faults import Loss, PowerCut
from tests.fault.simulated.judges import breaches, journal_digest
from tests.fault.simulated.machine import Machine, machine
from tests.fault.simulated.marks import Marks
from tests.fault.simulated.mishaps import DAY_SECONDS, Mishaps
from tests.fault.simulated.network import Network, Trouble
from tests.fault.simulated.steering import STEER_SECONDS, Steering, is_steered
from tests.fault.simulated.trace import Trace
from tests.fault.simulated.volunteer import Intent, Volunteer

EXACT: tuple[Encoding, ...] = ("f32", "bf16", "f16", "topk")
"""The encodings in which a mark arrives as it was."""
COMPRESSIONS: tuple[Compression, ...] = ("none", "zstd")
MODES = ("sync", "async")
BUFFERED_SHARE = 0.3
"""The share of histories whose job has buffers. Drawn apart, so that seeds from before it stay what they were."""
WORK_SECONDS = 5.0
MISHAP_SECONDS = 10.0
DOWN_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class History:
    """What a seed came to."""

    seed: int
    breaches: tuple[str, ...]
    digest: str = ""
    """Of the trace: the time of every event, each persistence call, each answer that was heard, and the journal."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What can be added up over histories."""


def run_history(folder: Path, seed: int, *, num_operations: int) -> History:
    """Live through one history in an empty folder. Equal arguments give equal histories.

    What the coordinator itself falls over is a breach like every other.
    """
    clock = ManualClock()
    try:
        with machine(folder, seed=f"history {seed}", clock=clock) as made:
            return World(made, seed, clock=clock, num_operations=num_operations).run()
    except (Exception, PowerCut):
        return History(seed, (traceback.format_exc(),))


class World:
    """One history, from the first start to the judgement."""

    def __init__(self, made: Machine, seed: int, *, clock: ManualClock, num_operations: int) -> None:
        self._seed = seed
        self._clock = clock
        self._num_operations = num_operations
        self._machine = made
        self._chance = self._stream("world")
        encoding, compression = self._chance.choice(EXACT), self._chance.choice(COMPRESSIONS)
        self._marks = Marks(num_operations + 10, encoding=encoding, compression=compression)
        self._volunteers = [
            Volunteer(f"volunteer-{n}", self._marks, self._stream(f"volunteer {n}"), is_modern=n % 4 != 0)
            for n in range(self._chance.randint(3, 10))
        ]
        self._agenda = Agenda(clock)
        self._network = Network(made, self._agenda, self._stream("network"))
        self._mishaps = Mishaps(made, self._volunteers, self._marks, clock, self._stream("mishaps"))
        self._steering = Steering(made, self._stream("steering"))
        self._is_starting = False
        self._num_passes = 0
        self._trace = Trace()

    def run(self) -> History:
        """Live through it and say what it came to."""
        self._begin()
        while self._operations() < self._num_operations:
            self._next()
        self._settle()
        return self._judged()

    def _stream(self, name: str) -> random.Random:
        """Return chance of its own for one part of the world: the others do not change with it."""
        return random.Random(f"{self._seed}: {name}")

    def _operations(self) -> int:
        return self._network.num_delivered + self._mishaps.num_happened + self._steering.num_acts + self._num_passes

    # --- the history --------------------------------------------------------------------------

    def _begin(self) -> None:
        self._machine.start()
        target = self._chance.randint(1, len(self._volunteers) - 1)
        every = self._chance.choice([0, 1, 3])
        rounds = {"target_updates": target, "min_updates": self._chance.randint(1, target)}
        mode = self._chance.choice(MODES)
        if self._stream("training mode").random() < BUFFERED_SHARE:
            job = self._marks.job(**rounds, mode="fedbuff")
        else:
            job = self._marks.job(**rounds, mode=mode, over_selection=2)
        evaluation = job.evaluation.model_copy(update={"every_rounds": every})
        self._machine.core.jobs.create(job.model_copy(update={"evaluation": evaluation}))
        for volunteer in self._volunteers:
            self._agenda.after(self._chance.uniform(0, 5), lambda volunteer=volunteer: self._act(volunteer))
        self._agenda.after(WORK_SECONDS, self._work)
        self._agenda.after(MISHAP_SECONDS, self._mishap)
        if is_steered(self._seed):
            self._agenda.after(STEER_SECONDS, self._steer)

    def _next(self) -> None:
        """Let the next thing happen. A machine that stops starts again after a while."""
        act, disk = self._agenda.next(), self._machine.disk
        num_calls = len(disk.trace)
        try:
            act()
        except PowerCut:
            self._machine.crash()
        self._trace.note(self._clock.now(), self._clock.monotonic(), disk.trace[num_calls:])
        if not self._machine.is_up and not self._is_starting:
            self._is_starting = True
            self._agenda.after(self._chance.uniform(0, DOWN_SECONDS), self._start)

    def _start(self) -> None:
        self._is_starting = False
        self._machine.start()

    def _act(self, volunteer: Volunteer) -> None:
        """Let a volunteer do its next thing; when it has heard, or waited long enough, it goes on."""
        life, (intent, request) = volunteer.life, volunteer.next(self._clock.monotonic())

        def hear(answer: Answer | None) -> None:
            self._trace.note(volunteer.name, volunteer.life, intent, answer)
            wait_seconds = 1.0
            if volunteer.life == life:
                wait_seconds = volunteer.hear(intent, answer, self._clock.monotonic())
            self._agenda.after(wait_seconds, lambda: self._act(volunteer))

        self._network.send(request, hear)

    def _work(self) -> None:
        self._agenda.after(WORK_SECONDS, self._work)
        if self._machine.is_up:
            self._num_passes += 1
            self._machine.work()

    def _mishap(self) -> None:
        self._agenda.after(self._chance.expovariate(1 / MISHAP_SECONDS), self._mishap)
        self._mishaps.happen()

    def _steer(self) -> None:
        self._agenda.after(STEER_SECONDS, self._steer)
        self._steering.steer()

    # --- its end ------------------------------------------------------------------------------

    def _settle(self) -> None:
        self._machine.disk.disarm()
        if not self._machine.is_up:
            self._machine.start()
        for volunteer in self._volunteers:
            if volunteer.is_in_doubt:
                volunteer.hear(Intent.SEND, self._machine.ask(volunteer.update()), self._clock.monotonic())
        self._machine.cut_power(Loss.ALL)
        self._machine.start()
        self._steering.let_go_on()
        for _ in range(2):  # every lease and every round ends, then all that nobody refers to is swept away
            self._machine.work_until_quiet()
            self._clock.advance(2 * DAY_SECONDS)
        self._machine.work_until_quiet()

    def _judged(self) -> History:
        core = self._machine.core
        self._trace.note(journal_digest(core))
        found = [*self._network.failures, *self._mishaps.breaches, *self._steering.breaches]
        found += breaches(core, self._marks, self._volunteers)
        return History(self._seed, tuple(found), self._trace.digest(), self._counts(core))

    def _counts(self, core: Coordinator) -> dict[str, int]:
        with core.store.snapshot() as records:
            late = sum(update.state is UpdateState.LATE for update in records.updates.all())
            num_versions = len(records.versions.of_job(core.jobs.default().job_id))
        return {
            "operations": self._operations(),
            "updates acknowledged": sum(len(volunteer.acknowledged) for volunteer in self._volunteers),
            "updates of rounds that were given up": late,
            "versions": num_versions,
            "crashes": self._machine.num_crashes,
            "acts of an operator on the job": self._steering.num_acts,
            "failed persistence calls": self._machine.num_errors,
            **{f"{trouble} messages": self._network.troubles[trouble] for trouble in Trouble},
        }
