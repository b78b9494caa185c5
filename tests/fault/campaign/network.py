"""The line between clients and coordinator fails in one way after the other."""

import time
from collections.abc import Sequence

from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.proxy import LINES, Line, Proxy, proxy
from tests.fault.campaign.session import Ground, Job, Session, session

CLIENTS = 6
TIMEOUT_SECONDS = 5.0
JOB = Job(inputs=640, outputs=40, target=3, deadline_seconds=10)
"""Updates of 103 kB: a cut after up to 60 kB falls into one of the first requests of a connection."""
STRIKES = 3
LONGEST_SECONDS = 20.0


def proxy_faults(ground: Ground, count: int, *, lines: Sequence[str] = tuple(LINES), seconds: float = 4.0) -> Outcome:
    """Let each kind of line do its harm for some seconds, and a few times at least; then the line is good again."""
    with session("proxy", ground, clients=0, job=JOB) as running:
        carrier = running.hold(proxy(running.server.port, ground.rng))
        running.employ(CLIENTS, url=carrier.url, timeout_seconds=TIMEOUT_SECONDS)
        running.goes_on(rounds=1)
        for number in range(count):
            name = lines[number % len(lines)]
            _let_strike(running, carrier, LINES[name], seconds)
            running.struck(name)
            running.goes_on(rounds=1)
    return running.outcome


def _let_strike(running: Session, carrier: Proxy, line: type[Line], seconds: float) -> None:
    began, before = time.monotonic(), carrier.struck[line]
    carrier.change(line)
    while (spent := time.monotonic() - began) < seconds or carrier.struck[line] - before < STRIKES:
        if spent > LONGEST_SECONDS:
            running.outcome.unexpected.append(f"{line.__name__} struck {carrier.struck[line] - before} times only")
            break
        time.sleep(0.05)
    carrier.change(Line)
