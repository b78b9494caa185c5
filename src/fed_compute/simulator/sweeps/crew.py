"""Processes that carry out a sweep's runs, as many at once as are asked for."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

from fed_compute.simulator.endings import ending_of
from fed_compute.simulator.sweeps.design import Run
from fed_compute.simulator.sweeps.events import Ended, Event, Failed, Tell, from_line

_SECONDS_TO_TIDY_UP = 5.0


class Crew:
    """So many lanes, each a thread that hands one run after the other to a process of its own.

    The processes hear no Ctrl-C: this process does, and ends them. One that is lost costs its own run only; the lane
    goes on with a new one. Not for Windows, as other training processes.
    """

    def __init__(self, size: int, folder: Path, *, arrays: Path | None) -> None:
        self._size = size
        self._folder = folder
        self._arrays = arrays
        self._workers: list[_Worker] = []
        self._stopped = False

    def carry_out(self, runs: Sequence[Run], tell: Tell) -> None:
        """Tell here, in the calling thread, what the runs tell. An error or a Ctrl-C there ends the processes."""
        orders, events = SimpleQueue[Run](), SimpleQueue[Event | None]()
        for run in runs:
            orders.put(run)
        with ThreadPoolExecutor(self._size, thread_name_prefix="sweep") as threads:
            try:
                lanes = [threads.submit(self._lane, orders, events) for _ in range(self._size)]
                num_open = self._size
                while num_open:
                    if (event := events.get()) is None:
                        num_open -= 1
                    else:
                        tell(event)
                for lane in lanes:
                    lane.result()
            finally:
                self._stop()

    def _lane(self, orders: SimpleQueue[Run], events: SimpleQueue[Event | None]) -> None:
        worker: _Worker | None = None
        try:
            while not self._stopped and (run := _next(orders)) is not None:
                worker = worker or self._start()
                if not worker.carry_out(self._order(run), events):
                    events.put(Failed(run.number, worker.last_words()))
                    worker = None
        finally:
            if worker is not None:
                worker.end()
            events.put(None)

    def _order(self, run: Run) -> str:
        arrays = None if self._arrays is None else str(self._arrays)
        return json.dumps({"run": run.to_json(), "folder": str(self._folder / run.folder), "arrays": arrays})

    def _start(self) -> "_Worker":
        worker = _Worker.start()
        self._workers.append(worker)
        if self._stopped:  # meanwhile
            worker.stop()
        return worker

    def _stop(self) -> None:
        self._stopped = True
        for worker in self._workers:
            worker.stop()


def _next(orders: SimpleQueue[Run]) -> Run | None:
    try:
        return orders.get_nowait()
    except Empty:
        return None


@dataclass(frozen=True, eq=False)
class _Worker:
    """A process that takes orders, with what it hears, tells, and says on standard error."""

    process: subprocess.Popen[str]
    orders: IO[str]
    told: IO[str]
    said: IO[bytes]

    @classmethod
    def start(cls) -> "_Worker":
        said = tempfile.TemporaryFile()  # noqa: SIM115 closed at the end
        process = subprocess.Popen(
            [sys.executable, "-m", "fed_compute.simulator.sweeps.work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            process_group=0,  # out of reach of Ctrl-C
        )
        if process.stdin is None or process.stdout is None:
            raise OSError("a process without its pipes")
        return cls(process, process.stdin, process.stdout, said)

    def carry_out(self, order: str, events: SimpleQueue[Event | None]) -> bool:
        """Pass on what the process tells of an order; say whether it told the end."""
        with suppress(BrokenPipeError):  # it is lost, which its silence tells
            self.orders.write(order + "\n")
            self.orders.flush()
        for line in self.told:
            event = from_line(line)
            events.put(event)
            if isinstance(event, Ended | Failed):
                return True
        return False

    def stop(self) -> None:
        """Ask the process to leave its work and tidy up."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Wait until the process is gone, but not for long."""
        with suppress(BrokenPipeError):  # it is gone already
            self.orders.close()
        try:
            self.process.wait(_SECONDS_TO_TIDY_UP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.told.close()
        self.said.close()

    def last_words(self) -> str:
        """Say how the process was lost."""
        how, last = ending_of(self.process, self.said)
        self.end()
        hint = "; if memory is short, let fewer run at once" if self.process.returncode == -signal.SIGKILL else ""
        return f"process {self.process.pid} {how}{last}{hint}"
