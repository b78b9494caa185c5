"""Packets are lost between clients and coordinator, for a while all of them."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.session import Ground, session
from tests.fault.campaign.wire import Wire, wire

TIMEOUT_SECONDS = 3.0

HARM: dict[str, Callable[[Wire], AbstractContextManager[None]]] = {
    "partition": lambda wire: wire.losing(1.0),
    "replies lost": lambda wire: wire.losing(1.0, requests=False),
    "20 % loss": lambda wire: wire.losing(0.2),
    "200 kbit/s": lambda wire: wire.thin(200),
}


def bad_wires(ground: Ground, count: int, *, seconds: tuple[float, float] = (1.0, 8.0)) -> Outcome:
    """Do the wire one kind of harm after the other, for less or longer than a lease; then training goes on."""
    with ExitStack() as stack:
        own = stack.enter_context(wire())
        behind = {"host": own.there, "prefix": own.prefix, "timeout_seconds": TIMEOUT_SECONDS}
        running = stack.enter_context(session("wire", ground, **behind))
        for number in range(count):
            running.until_acknowledged()
            name = list(HARM)[number % len(HARM)]
            with HARM[name](own):
                time.sleep(ground.rng.uniform(*seconds))
            running.struck(name)
            running.goes_on(rounds=1)
    return running.outcome
