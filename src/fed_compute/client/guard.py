"""Holds the owner's limits and wishes: looks at the clock, the power supply and today's count; `policy` decides."""

from collections.abc import Callable
from datetime import datetime

from fed_compute.client.history import DayBook
from fed_compute.client.policy import (
    Allowed,
    Decision,
    History,
    Moment,
    Policy,
    Refused,
    asked_of,
    decide,
    decide_moment,
    decide_to_go_on,
)
from fed_compute.client.wishes import Wishes, pause_reason
from fed_compute.clock import Clock
from fed_compute.errors import PolicyRefusal
from fed_compute.protocol.messages import TaskAnswer

PAUSE, FINISH = "pause", "finish"
"""What objects is the owner's wish, not a setting."""

_LOOK_AGAIN_SECONDS = 1.0


class Guard:
    """Lets pass what the owner of this machine allows, and nothing else."""

    def __init__(
        self, policy: Policy, book: DayBook, wishes: Wishes, clock: Clock, *, on_battery: Callable[[], bool]
    ) -> None:
        self._policy = policy
        self._book = book
        self._wishes = wishes
        self._clock = clock
        self._on_battery = on_battery

    @property
    def policy(self) -> Policy:
        """The owner's limits."""
        return self._policy

    def is_finishing(self) -> bool:
        """Say whether the owner wants the client to end after the task that it does.

        Raises:
            StateUnusable: if the owner's wish cannot be read.
        """
        return self._wishes.is_finishing()

    def pause(self) -> Refused | None:
        """Return the owner's wish to pause, as an objection; None while there is none.

        Raises:
            StateUnusable: if the owner's wish cannot be read.
        """
        wish = self._wishes.pause()
        return None if wish is None else Refused(PAUSE, pause_reason(wish), wait_seconds=_LOOK_AGAIN_SECONDS)

    def objection(self) -> Refused | None:
        """Return what forbids to begin anything now, before a task is asked for; None if nothing does.

        Raises:
            StateUnusable: if the owner's wish or today's count cannot be read.
        """
        if (pause := self.pause()) is not None:
            return pause
        decision = decide_moment(self._policy, self._book.read(), self._moment())
        return decision if isinstance(decision, Refused) else None

    def admit(self, task: TaskAnswer, *, own_samples: int) -> None:
        """Return if a task that would use `own_samples` of this machine's samples may be done.

        Raises:
            PolicyRefusal: naming the limit, what was found, and what is allowed.
            StateUnusable: if the owner's wish or today's count cannot be read.
        """
        if self.is_finishing():
            raise PolicyRefusal("you want this client to finish", setting=FINISH, wait_seconds=0.0)
        if (pause := self.pause()) is not None:
            _require(pause)
        asked = asked_of(task, own_samples=own_samples)
        _require(decide(asked, self._policy, self._book.read(), self._moment()))

    def watch(self) -> Callable[[float], None]:
        """Begin to time a training; return what to call during it. It looks once a second at most.

        The call raises `PolicyRefusal` as soon as the training is too long, the hours are over, or
        the machine runs on its battery. It takes the seconds since the last call that were no training.
        """
        clock = self._clock
        begun = looked = clock.monotonic()

        def look(idle_seconds: float) -> None:
            nonlocal looked, begun
            now = clock.monotonic()
            begun += idle_seconds
            if now - looked >= _LOOK_AGAIN_SECONDS:
                looked = now
                _require(decide_to_go_on(self._policy, self._moment(), seconds_trained=now - begun))

        return look

    def spend_round(self) -> None:
        """Count an update that is about to leave.

        Raises:
            PolicyRefusal: if today's last one has left meanwhile, sent by another client of this machine.
            StateUnusable: if it cannot be counted.
        """
        moment, limit = self._moment(), self._policy.max_rounds_per_day
        day = moment.local.date()
        if not self._book.spend(day, limit=limit):
            _require(decide_moment(self._policy, History(day, limit or 0), moment))

    def _moment(self) -> Moment:
        return Moment(
            local=datetime.fromtimestamp(self._clock.now()),
            on_battery=self._policy.ac_power_only and self._on_battery(),
        )


def _require(decision: Decision) -> None:
    match decision:
        case Allowed():
            return
        case Refused(setting, reason, wait_seconds):
            raise PolicyRefusal(reason, setting=setting, wait_seconds=wait_seconds)
