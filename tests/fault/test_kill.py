"""The coordinator is killed without warning, again and again, and nothing acknowledged is lost."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from fed_compute.coordinator.verify import verify_data_dir
from fed_compute.storage.sql.database import open_database
from fed_compute.storage.sql.store import Store
from tests.fault.light_client import LightClient

ROUNDS, KILLS = 20, 10
JOB = f"""
name = "default"
[rounds]
total = {ROUNDS}
target_updates = 5
min_updates = 3
deadline_seconds = 20
"""
NUM_PARAMETERS = 64 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10


class Server:
    """A real coordinator process that can be killed and started again on the same port and data."""

    def __init__(self, folder: Path, job: str = JOB, *, heartbeat_seconds: float = 2) -> None:
        self.data_dir = folder / "data"
        (folder / "job.toml").write_text(job)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log_file = folder / "server.log"
        self._command = [sys.executable, "-m", "fed_compute.cli.main", "serve", "--job", str(folder / "job.toml")]
        self._command += ["--port", str(self.port), "--data-dir", str(self.data_dir)]
        self._heartbeat_seconds = f"{heartbeat_seconds:g}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and return when it answers."""
        environment = {**os.environ, "FED_COMPUTE_HEARTBEAT_SECONDS": self._heartbeat_seconds}
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment)
        until = time.monotonic() + 60
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if httpx2.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"the coordinator did not come up, exit code {self._process.poll()}")

    def kill(self) -> None:
        """End the process as a power cut would."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def closed_rounds(self) -> int:
        """Return how many rounds have a result."""
        rounds = httpx2.get(f"{self.url}/metrics", timeout=10).raise_for_status().json()["rounds"]
        return sum(round_["state"] == "CLOSED" for round_ in rounds)


@contextmanager
def client_process(
    server: Server, folder: Path, name: str, part: str, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A client process that really trains; it is killed in the end. Its log goes on where an earlier one's ended."""
    environment = {
        **os.environ,
        "COORDINATOR_URL": server.url,
        "CLIENT_NAME": name,
        "CLIENT_DATA": f"digits,part={part}",
        "CLIENT_STATE_DIR": str(folder / name),
        "SLEEP_BETWEEN_ROUNDS": "0.05",
        "RETRY_DELAY": "0.1",
        **settings,
    }
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fed_compute.client"], stdout=log, stderr=log, env=environment
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextmanager
def light_clients(server: Server, count: int) -> Iterator[list[LightClient]]:
    """Threads that send marked updates and remember what was acknowledged."""
    clients = [LightClient(server.url, f"light-{i}", 0.001 * (i + 1), NUM_PARAMETERS) for i in range(count)]
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stop.set()
        for thread in threads:
            thread.join(30)


def kill_on_the_way(server: Server, rng: random.Random) -> None:
    """Kill ten times, each at a random moment of the next two rounds."""
    for number in range(KILLS):
        until = time.monotonic() + 90
        while server.closed_rounds() < 2 * number * (ROUNDS - 2) / (2 * KILLS):
            assert time.monotonic() < until, "training stood still after a kill"
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        server.kill()
        server.start()


@pytest.mark.timeout(400)
def test_twenty_rounds_survive_ten_kills_at_random_moments(tmp_path: Path) -> None:
    """Training goes on after every kill, and every acknowledged update is recorded and counted once."""
    server = Server(tmp_path)
    server.start()
    with ExitStack() as stack:
        stack.callback(server.kill)
        clients = stack.enter_context(light_clients(server, 3))
        for index in (1, 2):
            stack.enter_context(client_process(server, tmp_path, f"client-{index}", f"{index}/2"))
        kill_on_the_way(server, random.Random(1))
        until = time.monotonic() + 120
        while server.closed_rounds() < ROUNDS:
            assert time.monotonic() < until, f"only {server.closed_rounds()} rounds closed"
            time.sleep(0.1)
    report = verify_data_dir(server.data_dir)
    assert report.breaches == ()
    assert [client.unexpected for client in clients] == [[], [], []]
    store = Store(open_database(f"sqlite:///{server.data_dir / 'coordinator.sqlite3'}"))
    with store.snapshot() as records:
        recorded = {int(update.update_id): str(update.digest) for update in records.updates.all()}
        real = {update.client_id for update in records.updates.all() if update.client_id.startswith("client-")}
    store.close()
    acknowledged = {key: digest for client in clients for key, digest in client.acknowledged.items()}
    assert acknowledged.items() <= recorded.items()
    assert len(acknowledged) >= ROUNDS
    assert real == {"client-1", "client-2"}
