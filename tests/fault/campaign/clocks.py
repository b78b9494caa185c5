"""The coordinator's wall clock is set, by seconds or by a day, forward or back."""

import time

from tests.fault.campaign import altered
from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.session import Ground, session

CLIENTS = 10
JUMPS_SECONDS = (3600.0, -3600.0, 86_400.0, -86_400.0, 5.0, -5.0)


def clock_jumps(ground: Ground, count: int) -> Outcome:
    """The clock jumps while leases are out and a round collects, and one client is gone for good each time."""
    clock = ground.folder / "clock"
    clock.write_text("0")
    with session("clock", ground, clients=CLIENTS, program=(altered.__file__, "--clock-file", str(clock))) as running:
        for number in range(count):
            time.sleep(ground.rng.uniform(0.2, 1.0))
            (leaving,) = running.employ(1)
            leaving.stop.set()
            jump = JUMPS_SECONDS[number % len(JUMPS_SECONDS)]
            clock.write_text(f"{float(clock.read_text()) + jump}")
            running.struck(f"{jump:+.0f} s")
            running.goes_on(rounds=2)
    return running.outcome
