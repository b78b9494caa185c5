"""The coordinator is killed while clients really train, and nothing acknowledged is lost."""

import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fault.client_process import client_process
from tests.fault.examination import examine, read_books
from tests.fault.light_client import LightClient, working
from tests.fault.server import Server

ROUNDS, KILLS = 12, 5
PATIENCE_SECONDS = 120.0
JOB = f"""
name = "default"
[rounds]
total = {ROUNDS}
target_updates = 5
min_updates = 3
deadline_seconds = 20
"""
NUM_PARAMETERS = 64 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10


def until_closed(server: Server, rounds: int) -> None:
    """Wait until so many rounds have a result."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (closed := server.closed_rounds()) < rounds:
        assert time.monotonic() < until, f"only {closed} of {rounds} rounds closed"
        time.sleep(0.02)


@pytest.mark.timeout(400)
def test_twelve_rounds_of_real_training_survive_five_kills_at_random_moments(tmp_path: Path) -> None:
    """Training goes on after every kill, and every acknowledged update is recorded and counted once."""
    rng = random.Random(1)
    server = Server(tmp_path, job=JOB, environment={"FED_COMPUTE_HEARTBEAT_SECONDS": "2"})
    light = [LightClient(server.url, f"light-{number}", NUM_PARAMETERS) for number in range(3)]
    with ExitStack() as stack:
        stack.callback(server.close)
        server.start()
        stack.enter_context(working(light))
        for number in (1, 2):
            stack.enter_context(client_process(server, tmp_path, f"client-{number}", f"{number}/2"))
        for number in range(KILLS):
            until_closed(server, 2 * number)
            time.sleep(rng.uniform(0, 0.3))
            server.kill()
            server.start()
        until_closed(server, ROUNDS)
    found = examine(server.data_dir, [client.memory for client in light])
    assert (found.lost, found.doubled, found.breaches) == ((), (), ())
    assert [client.memory.unexpected for client in light] == [[], [], []]
    assert sum(len(client.memory.acknowledged) for client in light) >= ROUNDS
    senders = {update.client_id for update in read_books(server.data_dir).updates}
    assert {"client-1", "client-2"} <= senders
