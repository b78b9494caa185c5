"""A real coordinator process that can be killed, frozen, stopped and started again on one port and one data folder."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

from tests.fault.warm import Forked

START_SECONDS = 60.0
MAIN_MODULE = ("-m", "fed_compute.cli.main")
UNHURRIED = {
    f"FED_COMPUTE_{name}": "1000000"
    for name in (
        "REQUESTS_PER_MINUTE",
        "UPDATES_PER_MINUTE",
        "NETWORK_REQUESTS_PER_MINUTE",
        "NETWORK_UPDATES_PER_MINUTE",
        "NETWORK_UPLOAD_MIB_PER_HOUR",
        "UPLOAD_MIB_PER_HOUR",
        "REGISTRATIONS_PER_HOUR",
        "NEWCOMER_QUOTA",
        "DAILY_QUOTA",
    )
}
"""All clients of a test have one address, and are faster than any honest one."""


class Server:
    """One `fed-compute serve` after the other, on the same port and the same data.

    Args:
        folder: where the job file, the log and, if no `data_dir` is given, the data lie.
        job: the job file's text.
        environment: settings beside those that lift the limits of rates.
        prefix: a command that starts the command, such as `ip netns exec …`.
        program: what Python is given instead of the product's own main module.
        warm: whether to start it from a process that has imported it already, where neither prefix nor program forbid.
    """

    def __init__(
        self,
        folder: Path,
        *,
        job: str,
        data_dir: Path | None = None,
        host: str = "127.0.0.1",
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        program: Sequence[str] = MAIN_MODULE,
        warm: bool = False,
    ) -> None:
        self.data_dir = data_dir or folder / "data"
        self.port = free_port()
        self.url = f"http://{host}:{self.port}"
        (folder / "job.toml").write_text(job)
        self._log_file = folder / "server.log"
        self._arguments = ["serve", "--job", str(folder / "job.toml"), "--data-dir", str(self.data_dir)]
        self._arguments += ["--host", host, "--port", str(self.port)]
        self._command = [*prefix, sys.executable, *program]
        self._is_warm = warm and not prefix and program == MAIN_MODULE
        self._environment = {**os.environ, **UNHURRIED, **(environment or {})}
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._http = httpx2.Client(base_url=self.url, timeout=10)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; a frozen one does."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process and return at once."""
        if self._is_warm:
            self._process = Forked(self._arguments, self._environment, self._log_file)
            return
        with self._log_file.open("ab") as log:
            command = [*self._command, *self._arguments]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)

    def start(self) -> float:
        """Start the process, wait until it is ready, and return how many seconds that took."""
        began = time.monotonic()
        self.launch()
        self.wait_until_ready()
        return time.monotonic() - began

    def wait_until_ready(self) -> None:
        """Return when the process answers that it is ready."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.is_alive:
            if self.readiness() == 200:
                return
            time.sleep(0.02)
        code = None if self._process is None else self._process.poll()
        raise AssertionError(f"the coordinator did not become ready, exit code {code}: {self.last_log_line()}")

    def readiness(self) -> int | None:
        """Return the status that `/readyz` answers with, None if there is no answer."""
        try:
            return self._http.get("/readyz").status_code
        except httpx2.TransportError:
            return None

    def get(self, path: str) -> httpx2.Response:
        """Ask for something that anybody may see."""
        return self._http.get(path)

    def closed_rounds(self) -> int:
        """Return how many rounds have a result."""
        rounds = self.get("/metrics").raise_for_status().json()["rounds"]
        return sum(round_["state"] == "CLOSED" for round_ in rounds)

    def is_closing_a_round(self) -> bool:
        """Say whether a round waits for its result; no, if the coordinator cannot say so now."""
        answer = self.get("/metrics")
        return answer.is_success and any(round_["state"] == "AGGREGATING" for round_ in answer.json()["rounds"])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process runs."""
        if self._process is not None and self.is_alive:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End the process as a power cut would, but for what the kernel has not written yet."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def wait(self, *, timeout_seconds: float) -> int:
        """Wait for the end of the process and return its exit code."""
        assert self._process is not None
        return self._process.wait(timeout_seconds)

    def close(self) -> None:
        """Kill the process, also a frozen one, and forget its connections."""
        self.kill()
        self._http.close()

    def memory_mib(self) -> float:
        """Return the resident memory of the process, in MiB."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    @contextlib.contextmanager
    def files_limited(self, *, size_bytes: int) -> Iterator[None]:
        """Let the process make no file larger than this for as long as the block runs; it gets EFBIG."""
        assert self._process is not None
        _, most = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size_bytes, most))
        try:
            yield
        finally:
            if self.is_alive:
                resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (most, most))

    def num_handles(self) -> int:
        """Return how many files and sockets the process has open."""
        assert self._process is not None
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def log(self) -> str:
        """Return what the processes so far have logged."""
        return self._log_file.read_text(errors="replace")

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the log; one that a kill cut short is left out."""
        for line in self.log().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event

    def last_log_line(self) -> str:
        """Return the last line of the log, for a message."""
        return (self.log().splitlines() or ["(no log)"])[-1][:500]


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
