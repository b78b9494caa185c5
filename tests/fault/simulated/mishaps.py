"""What befalls the machine, the volunteers and the clock, and what strangers try."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fed_compute.clock import ManualClock
from fed_compute.ids import JobId
from tests.fault.simulated import calls
from tests.fault.simulated.exchange import Request
from tests.fault.simulated.faults import Fault, Loss
from tests.fault.simulated.machine import DATA, Machine
from tests.fault.simulated.marks import STRANGE, Marks
from tests.fault.simulated.volunteer import Acknowledged, Volunteer

LEASE_SECONDS = 30.0
HOUR_SECONDS, DAY_SECONDS = 3600.0, 26 * 3600.0
MOST_CALLS_AHEAD = 30


@dataclass(slots=True)
class Mishaps:
    """Lets one thing after the other happen. None of it may be felt by an honest volunteer but as a delay."""

    machine: Machine
    volunteers: Sequence[Volunteer]
    marks: Marks
    clock: ManualClock
    chance: random.Random
    num_happened: int = 0
    breaches: list[str] = field(default_factory=list)
    """What a stranger achieved, or an honest sender did not."""
    _banned: set[str] = field(default_factory=set)

    def happen(self) -> None:
        """Let one mishap happen.

        Raises:
            PowerCut: if the machine stops during it.
        """
        self.num_happened += 1
        acts: dict[Callable[[], None], int] = {
            self._arm_a_fault: 12,
            self._cut_power: 3,
            self._restart: 1,
            self._set_the_clock: 1,
            self._stand_still: 1,
            self._let_a_day_pass: 1,
            self._close_a_round: 2,
            self._shut_out: 1,
            self._let_in_again: 1,
            self._send_what_was_acknowledged: 4,
            self._try_as_stranger: 4,
            self._forget: 2,
        }
        (act,) = self.chance.choices([*acts], weights=[*acts.values()])
        act()

    # --- the machine and time -----------------------------------------------------------------

    def _arm_a_fault(self) -> None:
        self.machine.disk.arm(self.chance.choice([*Fault]), calls_from_now=self.chance.randint(1, MOST_CALLS_AHEAD))

    def _cut_power(self) -> None:
        if self.machine.is_up:
            self.machine.cut_power(self.chance.choice([*Loss]))

    def _restart(self) -> None:
        if self.machine.is_up:
            self.machine.stop()
            self.machine.start()

    def _set_the_clock(self) -> None:
        self.clock.jump(self.chance.uniform(-HOUR_SECONDS, HOUR_SECONDS))

    def _stand_still(self) -> None:
        self.clock.advance(self.chance.uniform(0, 10 * LEASE_SECONDS))

    def _let_a_day_pass(self) -> None:
        if self.chance.random() < 0.2:
            self.clock.advance(DAY_SECONDS)

    # --- the operator -------------------------------------------------------------------------

    def _close_a_round(self) -> None:
        if self.machine.is_up:
            with self.machine.core.store.snapshot() as records:
                live = records.rounds.live(JobId(1))
            if live is not None:
                self.machine.ask(calls.close_round(live.round_id, self._operator_key()))

    def _shut_out(self) -> None:
        volunteer = self.chance.choice(self.volunteers)
        if self.machine.is_up and volunteer.key and len(self._banned) < len(self.volunteers) // 3:
            self._banned.add(volunteer.name)
            self.machine.ask(calls.ban(volunteer.name, self._operator_key()))

    def _let_in_again(self) -> None:
        if self.machine.is_up and self._banned:
            name = self.chance.choice(sorted(self._banned))
            if self.machine.ask(calls.unban(name, self._operator_key())).status == 200:
                self._banned.discard(name)

    def _operator_key(self) -> str:
        return (self.machine.disk.root / DATA / "operator.key").read_text().strip()

    # --- clients ------------------------------------------------------------------------------

    def _forget(self) -> None:
        """A client's machine starts again: it has its key and has forgotten what it was doing."""
        self.chance.choice(self.volunteers).start_again()

    def _send_what_was_acknowledged(self) -> None:
        if (found := self._acknowledged()) is None:
            return
        volunteer, first = found
        errors = self.machine.disk.num_errors
        answer = self.machine.ask(calls.put_update(first.task_id, volunteer.key, first.body, self.marks.compression))
        if answer.code == "client_banned" or self.machine.disk.num_errors > errors:
            return
        said = answer.document
        if (answer.status, said.get("repeated"), said.get("update_id")) != (200, True, first.update_id):
            self.breaches.append(f"update {first.update_id} came again and was answered {answer.status} {said}")

    def _acknowledged(self) -> tuple[Volunteer, Acknowledged] | None:
        """Return a volunteer of the binary protocol, and an update for which it has a 2xx."""
        able = [one for one in self.volunteers if one.is_modern and one.acknowledged]
        if not able or not self.machine.is_up:
            return None
        volunteer = self.chance.choice(able)
        return volunteer, self.chance.choice([*volunteer.acknowledged.values()])

    def _try_as_stranger(self) -> None:
        """Send what must be refused, and look whether the refusal has left a trace."""
        if (found := self._acknowledged()) is None:
            return
        (volunteer, theirs), other = found, self.chance.choice(self.volunteers)
        strange = self.marks.body(STRANGE)
        request = self.chance.choice(
            [
                calls.put_update(theirs.task_id, volunteer.key, strange, self.marks.compression),
                calls.put_update(theirs.task_id, volunteer.key, theirs.body[::-1], self.marks.compression),
                calls.put_update(theirs.task_id, "", theirs.body, self.marks.compression),
                calls.put_update("t_" + "0" * 24, volunteer.key, strange, self.marks.compression),
                *self._on_a_lease_of(other, volunteer, strange),
            ]
        )
        before, errors = self._state(), self.machine.disk.num_errors
        answer = self.machine.ask(request)
        if self.machine.disk.num_errors > errors:
            return
        if not 400 <= answer.status < 500:
            self.breaches.append(f"a stranger's {request.method} {request.path} was answered {answer.status}")
        if self._state() != before:
            self.breaches.append(f"refused with {answer.code}, {request.method} {request.path} has left a trace")

    def _on_a_lease_of(self, other: Volunteer, stranger: Volunteer, body: bytes) -> list[Request]:
        if other is stranger or other.lease is None:
            return []
        return [calls.put_update(other.lease.task_id, stranger.key, body, self.marks.compression)]

    def _state(self) -> tuple[object, ...]:
        """Return what no refusal may change."""
        core = self.machine.core
        with core.store.snapshot() as records:
            rounds, versions = records.rounds.of_job(JobId(1)), records.versions.of_job(JobId(1))
            return (list(records.updates.all()), rounds, versions, set(core.blobs.digests()))
