"""A network between volunteers and the coordinator that loses, doubles, delays, cuts and damages what it carries."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.fault.simulated.agenda import Agenda
from tests.fault.simulated.exchange import Answer, Exchange, Request
from tests.fault.simulated.machine import Machine
from tests.fault.simulated.volunteer import NOT_NOW

Hear = Callable[[Answer | None], None]


class Trouble(StrEnum):
    """What can happen to a message on its way. Delays reorder messages by themselves."""

    LOST = "lost"
    """Also an answer: the request was served and nobody hears of it."""
    DOUBLED = "doubled"
    LATE = "late"
    """By seconds to minutes, up to ten times as long as a lease."""
    CUT = "cut"
    """The connection breaks in the middle of a body."""
    SLOW = "slow"
    """A body comes in pieces, other requests between them."""
    DAMAGED = "damaged"
    """One byte of a body is another one."""


WEATHER: Mapping[Trouble, float] = {
    Trouble.LOST: 0.05,
    Trouble.DOUBLED: 0.05,
    Trouble.LATE: 0.05,
    Trouble.CUT: 0.1,
    Trouble.SLOW: 0.15,
    Trouble.DAMAGED: 0.05,
}
"""How likely each trouble of a message is."""
PATIENCE_SECONDS = 15.0
"""How long a volunteer waits for an answer."""
LATEST_SECONDS = 300.0


class Network:
    """Carries requests to the machine and answers back."""

    def __init__(self, machine: Machine, agenda: Agenda, chance: random.Random) -> None:
        self.num_delivered = 0
        self.troubles: Counter[Trouble] = Counter()
        """How often each happened."""
        self.failures: list[str] = []
        """Answers of 5xx that no fault of the disk explains."""
        self._machine = machine
        self._agenda = agenda
        self._chance = chance

    def send(self, request: Request, hear: Hear) -> None:
        """Carry a request. `hear` is told its answer, or None once the sender has lost its patience."""
        call = _Call(hear)
        self._agenda.after(PATIENCE_SECONDS, lambda: call.tell(None))
        for _ in range(2 if self._happens(Trouble.DOUBLED) else 1):
            if not self._happens(Trouble.LOST):
                self._agenda.after(self._delay(), lambda: self._deliver(request, call))

    def _deliver(self, request: Request, call: "_Call") -> None:
        if not self._machine.is_up:
            self._agenda.after(0.01, lambda: call.tell(None))
            return
        self.num_delivered += 1
        pieces, is_cut = self._pieces(request), False
        if request.body and self._happens(Trouble.CUT):
            pieces, is_cut = [request.body[: self._chance.randrange(len(request.body))]], True
        exchange, num_errors = self._machine.begin(request), self._machine.num_errors
        upload = _Upload(request, exchange, pieces, is_cut, self._machine.num_starts, num_errors)
        self._go_on(upload, call)

    def _go_on(self, upload: "_Upload", call: "_Call") -> None:
        """Bring the next piece of a body, and the answer back when there is one."""
        if not self._machine.is_up or self._machine.num_starts != upload.start:
            return  # the process that was reading it is gone
        piece, *rest = upload.pieces
        upload.exchange.feed(piece, is_last=not rest and not upload.is_cut)
        if (answer := upload.exchange.answer) is not None:
            self._judge(upload.request, answer, excused=self._machine.num_errors > upload.errors)
            if not self._happens(Trouble.LOST):
                self._agenda.after(self._delay(), lambda: call.tell(answer))
        elif rest:
            self._agenda.after(self._delay(), lambda: self._go_on(replace(upload, pieces=rest), call))
        else:
            upload.exchange.cut()
            self._agenda.after(self._delay(), lambda: call.tell(None))

    def _judge(self, request: Request, answer: Answer, *, excused: bool) -> None:
        if answer.status >= 500 and answer.code not in NOT_NOW and not excused:
            self.failures.append(f"{request.method} {request.path}: {answer.status} {answer.code}")

    def _pieces(self, request: Request) -> list[bytes]:
        """Return the body as it comes: in how many pieces, and with which damage."""
        body = request.body
        # JSON has no digest that would tell, and a head that is damaged is refused by what it says
        if request.method in ("PUT", "PATCH") and self._happens(Trouble.DAMAGED):
            place = self._chance.randrange(len(body) // 2, len(body))
            body = body[:place] + bytes([body[place] ^ 1 << self._chance.randrange(8)]) + body[place + 1 :]
        if len(body) < 2 or not self._happens(Trouble.SLOW):
            return [body]
        middle = self._chance.randrange(1, len(body))
        return [body[:middle], body[middle:]]

    def _delay(self) -> float:
        if self._happens(Trouble.LATE):
            return self._chance.uniform(1, LATEST_SECONDS)
        return self._chance.expovariate(1 / 0.1)

    def _happens(self, trouble: Trouble) -> bool:
        happens = self._chance.random() < WEATHER[trouble]
        self.troubles[trouble] += happens
        return happens


@dataclass(slots=True)
class _Call:
    hear: Hear
    is_over: bool = False

    def tell(self, answer: Answer | None) -> None:
        if not self.is_over:
            self.is_over = True
            self.hear(answer)


@dataclass(frozen=True, slots=True)
class _Upload:
    request: Request
    exchange: Exchange
    pieces: list[bytes]
    is_cut: bool
    start: int
    """Which start of the machine it came to."""
    errors: int
    """How many persistence calls had failed before it."""
