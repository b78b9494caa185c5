"""The process is killed, frozen, or asked to end, while clients are at work."""

import signal
import time

from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.session import Ground, session

CLIENTS = 10
DIES_STARTING = 0.2
"""Share of the kills after which the next process is killed too, before it is ready."""


def kills(ground: Ground, count: int, *, after_seconds: tuple[float, float] = (0.0, 2.0)) -> Outcome:
    """SIGKILL at a random moment after an answer, sometimes again at once; then the next process goes on."""
    with session("SIGKILL", ground, clients=CLIENTS) as running:
        while running.outcome.trials < count:
            running.until_acknowledged()
            time.sleep(ground.rng.uniform(*after_seconds))
            running.server.kill()
            running.struck("at work")
            if running.outcome.trials < count and ground.rng.random() < DIES_STARTING:
                running.server.launch()
                time.sleep(ground.rng.uniform(0.0, 1.5))
                running.server.kill()
                running.struck("while starting")
            running.start()
    return running.outcome


def freezes(ground: Ground, count: int, *, for_seconds: tuple[float, float] = (0.5, 10.0)) -> Outcome:
    """SIGSTOP, for less or longer than a lease, then SIGCONT."""
    with session("SIGSTOP", ground, clients=CLIENTS) as running:
        for _ in range(count):
            time.sleep(ground.rng.uniform(0.2, 1.0))
            running.server.signal(signal.SIGSTOP)
            time.sleep(ground.rng.uniform(*for_seconds))
            running.server.signal(signal.SIGCONT)
            running.struck("frozen")
            running.goes_on(rounds=1)
    return running.outcome


def drains(ground: Ground, count: int) -> Outcome:
    """SIGTERM under load: the process ends by itself, in time and without an error, and the next one goes on."""
    with session("SIGTERM", ground, clients=CLIENTS) as running:
        for _ in range(count):
            time.sleep(ground.rng.uniform(0.2, 2.0))
            running.drain()
            running.struck("at work")
            running.start()
    return running.outcome
