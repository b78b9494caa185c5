"""Every crash point of a short story: two volunteers train three rounds, and one persistence call meets a fault.

The story has four parts: the first start with a job and two registrations, and three rounds. It is told once without
a fault; then each part is told again for each of its persistence calls and each fault, from the data that the part
before it left. To stop before a call is the same as to stop after the one before it, unless somebody was answered in
between: it is told only where one was.

Whatever happens, volunteers and operator do what real ones do: start again, ask again, send again. At the end the
power is cut once more, with everything unsynced lost, and the story must have come to the very chain of versions that
it comes to without a fault.
"""

import random
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from fed_compute.clock import ManualClock
from tests.fault.simulated import calls
from tests.fault.simulated.faults import Fault, Loss, PowerCut
from tests.fault.simulated.judges import breaches
from tests.fault.simulated.machine import Machine, machine
from tests.fault.simulated.marks import Marks
from tests.fault.simulated.volunteer import Intent, Volunteer

T = TypeVar("T")

ROUNDS = 3
PARTS = range(1 + ROUNDS)
NAMES = ("anna", "bob")
MOST_TRIES = 10
DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """One call of one part, 1 for the first, and what becomes of it."""

    part: int
    call: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a part starts from: the data, and what the volunteers know."""

    folder: Path
    volunteers: Sequence[Volunteer]

    def known(self) -> list[Volunteer]:
        """Return the volunteers as they are when the part begins. Nobody holds a lease then."""
        return [replace(one, acknowledged={**one.acknowledged}, models={}, unexpected=[]) for one in self.volunteers]


class Story:
    """The story as it goes without a fault, and with each."""

    def __init__(self, folder: Path) -> None:
        """Tell it once without a fault."""
        self.traces: list[list[str]] = []
        """The persistence calls of each part."""
        self._answered: list[set[int]] = []
        self._folder = folder
        self._marks = Marks(2 + ROUNDS * len(NAMES))
        self._chains: list[list[str]] = []
        chance = random.Random(0)
        (folder / "0").mkdir()
        self._beginnings = [Beginning(folder / "0", [Volunteer(name, self._marks, chance) for name in NAMES])]
        for part in PARTS:
            self._tell_whole(part)

    def crash_points(self) -> list[CrashPoint]:
        """Return every crash point there is."""
        return [
            CrashPoint(part, call, fault)
            for part in PARTS
            for call in range(1, len(self.traces[part]) + 1)
            for fault in Fault
            if fault is not Fault.DIE_BEFORE or call in self._answered[part]
        ]

    def breaches_at(self, point: CrashPoint) -> list[str]:
        """Tell the point's part with its fault; return what was wrong in the end, or on the way there."""
        try:
            return self._tell_with(point)
        except (Exception, PowerCut):
            return [traceback.format_exc()]

    def _tell_with(self, point: CrashPoint) -> list[str]:
        beginning = self._beginnings[point.part]
        with TemporaryDirectory(dir=self._folder) as name:
            folder = Path(shutil.copytree(beginning.folder, Path(name) / "life"))
            clock = _clock_of(point.part)
            with machine(folder, seed=f"part {point.part}", clock=clock) as made:
                made.disk.arm(point.fault, calls_from_now=point.call)
                teller = Teller(made, clock, self._marks, beginning.known())
                teller.tell(point.part)
                happened = made.num_errors if point.fault is Fault.ERROR else made.num_crashes
                chain, found = teller.settle()
        if happened != 1:
            found.append(f"the fault happened {happened} times")
        if chain != self._chains[point.part]:
            found.append(f"the versions are {chain}, without a fault they are {self._chains[point.part]}")
        return found

    def _tell_whole(self, part: int) -> None:
        beginning, clock = self._beginnings[part], _clock_of(part)
        folder = Path(shutil.copytree(beginning.folder, self._folder / f"{part + 1}"))
        with machine(folder, seed=f"part {part}", clock=clock) as made:
            teller = Teller(made, clock, self._marks, beginning.known())
            teller.tell(part)
            self.traces.append(list(made.disk.trace))
            self._answered.append(teller.first_calls)
            made.stop()
            shutil.copytree(folder, self._folder / f"whole-{part}")
            self._beginnings.append(Beginning(self._folder / f"whole-{part}", teller.volunteers))
            made.start()
            chain, found = teller.settle()
        assert found == [], f"the story goes wrong by itself: {found}"
        self._chains.append(chain)


class Teller:
    """Tells one part on a machine, and goes on through every fault."""

    def __init__(self, made: Machine, clock: ManualClock, marks: Marks, volunteers: list[Volunteer]) -> None:
        self.volunteers = volunteers
        self.first_calls = {1}
        """The first persistence call after each answer that somebody got."""
        self._machine = made
        self._clock = clock
        self._marks = marks

    def tell(self, part: int) -> None:
        """Tell a part from its start to where nothing of it is left to do."""
        self._machine.start()
        if part == 0:
            self._until(self._has_job, self._create_job)
        for one in self.volunteers if part == 0 else ():
            self._until(lambda one=one: one.key != "", lambda one=one: self._say(one, Intent.REGISTER))
        for one in self.volunteers if part > 0 else ():
            self._until(lambda one=one: one.lease is not None, lambda one=one: self._say(one, Intent.ASK))
        for one in self.volunteers:
            self._until(lambda one=one: one.lease is None, lambda one=one: self._say(one, Intent.SEND))
        self._clock.advance(3)
        while self._attempt(self._machine.work) is not False:
            pass

    def settle(self) -> tuple[list[str], list[str]]:
        """Cut the power, start, let two days pass; return the chain of versions and every broken promise."""
        self._machine.disk.disarm()
        self._machine.cut_power(Loss.ALL)
        self._machine.start()
        self._clock.advance(2 * DAY_SECONDS)
        self._machine.work_until_quiet()
        core = self._machine.core
        with core.store.snapshot() as records:
            chain = [str(version.chain) for version in records.versions.of_job(core.jobs.default().job_id)]
        return chain, breaches(core, self._marks, self.volunteers)

    def _has_job(self) -> bool:
        return self._machine.core.jobs.all() != []

    def _create_job(self) -> None:
        job = self._marks.job(target_updates=len(NAMES), min_updates=len(NAMES))
        quiet = job.evaluation.model_copy(update={"every_rounds": 0})
        self._attempt(lambda: self._machine.core.jobs.create(job.model_copy(update={"evaluation": quiet})))

    def _say(self, one: Volunteer, intent: Intent) -> None:
        match intent:
            case Intent.REGISTER:
                request = calls.register(one.name)
            case Intent.ASK:
                request = calls.ask(one.name, one.key)
            case _:
                request = one.update()
        answer = self._attempt(lambda: self._machine.ask(request))
        one.hear(intent, answer, self._clock.monotonic())

    def _attempt(self, act: Callable[[], T]) -> T | None:
        """Do something; None if a fault prevented it, or if nobody heard what came of it."""
        errors = self._machine.num_errors
        self.first_calls.add(len(self._machine.disk.trace) + 1)
        try:
            return act()
        except PowerCut:
            self._machine.crash()
            self._machine.start()
        except Exception:
            if self._machine.num_errors == errors:
                raise
        return None

    def _until(self, is_done: Callable[[], bool], act: Callable[[], None]) -> None:
        for _ in range(MOST_TRIES):
            if is_done():
                return
            act()
        raise AssertionError(f"after {MOST_TRIES} tries it is not done")


def _clock_of(part: int) -> ManualClock:
    return ManualClock(1_700_000_000.0 + 1_000 * part)
