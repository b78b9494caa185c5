"""An operator who pauses, resumes and stops the job, in some histories."""

import random
from dataclasses import dataclass, field

from tests.fault.simulated import calls
from tests.fault.simulated.machine import DATA, Machine

STEER_SECONDS = 30.0
EVERY, PLACE = 5, 4
"""Of each five seeds one has such an operator. Those that failed before there was one are none of these."""
_STATES = {"pause": "paused", "resume": "running", "stop": "stopped"}
_WEIGHTS = {"pause": 12, "resume": 12, "stop": 1}


def is_steered(seed: int) -> bool:
    """Say whether a history has an operator who steers."""
    return seed % EVERY == PLACE


@dataclass(slots=True)
class Steering:
    """Acts on the job by chance. What an act comes to must be what was answered, whatever fails."""

    machine: Machine
    chance: random.Random
    num_acts: int = 0
    breaches: list[str] = field(default_factory=list)

    def steer(self) -> None:
        """Do one act.

        Raises:
            PowerCut: if the machine stops during it.
        """
        (act,) = self.chance.choices([*_WEIGHTS], weights=[*_WEIGHTS.values()])
        if self.machine.is_up:
            self._do(act)

    def let_go_on(self) -> None:
        """Resume the job if it is paused, so that its rounds can end."""
        if self.machine.core.jobs.default().state == "paused":
            self._do("resume")

    def _do(self, act: str) -> None:
        self.num_acts += 1
        job, errors = self.machine.core.jobs.default(), self.machine.disk.num_errors
        key = (self.machine.disk.root / DATA / "operator.key").read_text().strip()
        answer = self.machine.ask(calls.steer(job.name, act, key))
        state = self.machine.core.jobs.default().state
        is_too_late = job.state == "finished" or (job.state == "stopped" and act != "stop")
        if self.machine.disk.num_errors > errors:
            return
        if (answer.status, state) != ((409, job.state) if is_too_late else (200, _STATES[act])):
            self.breaches.append(f"{act} of a job that is {job.state} was answered {answer.status}, it is {state}")
