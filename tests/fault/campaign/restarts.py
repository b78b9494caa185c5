"""How long a coordinator that was killed takes to answer again, with nothing behind it and with much."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fed_compute.protocol.job import parse_job_text
from tests.fault.campaign.session import Job
from tests.fault.server import Server
from tests.unit.coordinator.stand import Stand, body_for

UPDATES_A_ROUND = 4
MANY = 100_000
JOB = Job(inputs=2, outputs=1, target=UPDATES_A_ROUND, minimum=UPDATES_A_ROUND, deadline_seconds=600)
LIBRARIES = "import fed_compute.cli.main, fed_compute.coordinator.wiring, fed_compute.server.serve"


def restarts(folder: Path, count: int, *, rounds: int, tell: Callable[[int], None]) -> list[float]:
    """Kill and start a coordinator again and again; return the seconds from each start to the first answer 200.

    Args:
        rounds: how many closed rounds lie in its data folder, of four updates each.
        tell: called after each start with their number.
    """
    if rounds:
        _train(folder / "data", rounds)
    server, seconds = Server(folder, job=JOB.text()), []
    try:
        server.start()
        for number in range(count):
            server.kill()
            seconds.append(server.start())
            tell(number + 1)
    finally:
        server.close()
    return seconds


def imports(count: int, *, tell: Callable[[int], None]) -> list[float]:
    """Return how long Python takes to start and import what a coordinator consists of: no restart can be faster."""
    seconds = []
    for number in range(count):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
        seconds.append(time.monotonic() - began)
        tell(number + 1)
    return seconds


def _train(data_dir: Path, rounds: int) -> None:
    """Leave a folder behind in which so many rounds were closed."""
    stand = Stand(data_dir, newcomer_quota=MANY, daily_quota=MANY)
    stand.create(parse_job_text(JOB.text()))
    names = [f"past-{number}" for number in range(UPDATES_A_ROUND)]
    stand.join(*names)
    for number in range(rounds):
        for name in names:
            lease = stand.lease(name, evaluates=False)
            stand.send(name, lease, body_for(lease, 0.1 + 0.0001 * number))
        stand.clock.advance(60.0)
        stand.work()
    stand.close()
