"""Coordinators that start within a moment: each is forked from a process that has imported everything.

The process is a real one all the same: the product's own command with its own signals, files and sockets.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PRELOADED = ["fed_compute.cli.main", "fed_compute.coordinator.wiring", "fed_compute.server.serve", __name__]


class Forked:
    """A process as `subprocess.Popen` shows one, as far as a test needs it."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log_file: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(target=_run, args=(list(arguments), dict(environment), log_file), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("fed-compute", timeout)
        return self._process.exitcode


def _run(arguments: list[str], environment: dict[str, str], log_file: Path) -> None:
    from fed_compute.cli.main import main

    with log_file.open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(arguments))
