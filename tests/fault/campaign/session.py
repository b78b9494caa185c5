"""One coordinator, its clients, and what they are owed at the end."""

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from tests.fault.campaign.outcome import Outcome
from tests.fault.examination import examine, lost, read_books
from tests.fault.light_client import LightClient, working
from tests.fault.server import Server

T = TypeVar("T")

HEARTBEAT_SECONDS = 1.0
"""Three missed ones end a lease."""
GOES_ON_SECONDS = 120.0
"""How long a campaign waits for what must happen before it says that it did not."""
DRAIN_SECONDS = 10.0
"""What a coordinator may take between SIGTERM and its end."""


@dataclass(frozen=True)
class Job:
    """A linear model of `(inputs + 1) * outputs` parameters, and more rounds than anybody needs."""

    inputs: int = 64
    outputs: int = 10
    target: int = 4
    minimum: int = 2
    deadline_seconds: float = 6.0

    @property
    def num_parameters(self) -> int:
        """The length of an update, in values."""
        return (self.inputs + 1) * self.outputs

    def text(self) -> str:
        """Return the job file."""
        return f"""
name = "default"
[model]
name = "linear"
args = {{ input_dim = {self.inputs}, output_dim = {self.outputs} }}
[rounds]
total = 1000000
target_updates = {self.target}
min_updates = {self.minimum}
deadline_seconds = {self.deadline_seconds}
"""


@dataclass(frozen=True)
class Ground:
    """Where and by which chance a session runs, and who hears of each trial.

    `warm` starts processes from one that has imported the product already, which takes a tenth of the time.
    """

    folder: Path
    rng: random.Random
    watch: Callable[[Outcome], None] = lambda outcome: None
    warm: bool = False


class Session:
    """A running coordinator with clients at work."""

    def __init__(self, kind: str, server: Server, job: Job, watch: Callable[[Outcome], None]) -> None:
        self.outcome = Outcome(kind)
        self.server = server
        self.clients: list[LightClient] = []
        self._job = job
        self._watch = watch
        self._at_work = ExitStack()
        self._version = 1

    def start(self) -> None:
        """Start the coordinator, note how long it took, and hold its records against what was acknowledged before."""
        self.outcome.start_seconds.append(self.server.start())
        promises = [promise for client in self.clients for promise in list(client.memory.acknowledged)]
        self.outcome.lost += lost(read_books(self.server.data_dir), promises)

    def employ(self, count: int, *, url: str | None = None, **character: Any) -> list[LightClient]:
        """Let so many more clients work until the end, at another address than the coordinator's if one is given."""
        names = [f"light-{len(self.clients) + place}" for place in range(count)]
        new = [LightClient(url or self.server.url, name, self._job.num_parameters, **character) for name in names]
        self.clients += new
        self._at_work.enter_context(working(new))
        return new

    def hold(self, resource: AbstractContextManager[T]) -> T:
        """Keep something open until the clients that are employed from now on have gone home."""
        return self._at_work.enter_context(resource)

    def struck(self, variant: str) -> None:
        """Count one fault."""
        self.outcome.trials += 1
        self.outcome.details[variant] += 1
        self._watch(self.outcome)

    def version(self) -> int:
        """Return the newest version of the model that the coordinator has told of."""
        with contextlib.suppress(httpx2.TransportError, httpx2.HTTPStatusError):
            told = self.server.get("/").raise_for_status().json()["model_version"]
            self._version = max(self._version, int(told.removeprefix("v")))
        return self._version

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something without which the session makes no sense."""
        until = time.monotonic() + GOES_ON_SECONDS
        while not holds():
            assert time.monotonic() < until, f"waited {GOES_ON_SECONDS:.0f} s for {what}"
            time.sleep(0.02)

    def until_acknowledged(self) -> None:
        """Wait until one more update is acknowledged."""
        before = self._num_acknowledged()
        self.until(lambda: self._num_acknowledged() > before, "an acknowledged update")

    def goes_on(self, *, rounds: int) -> None:
        """Wait until so many more rounds have closed; that they do not is unexpected. Nobody waits after a loss."""
        wanted, until = self.version() + rounds, time.monotonic() + GOES_ON_SECONDS
        while self.version() < wanted and not self.outcome.lost:
            if time.monotonic() > until:
                self.outcome.unexpected.append(f"training stood still at v{self.version()}, v{wanted} was to come")
                return
            time.sleep(0.05)

    def drain(self) -> None:
        """End the coordinator by SIGTERM; that it takes too long, or fails, is unexpected."""
        self.server.signal(signal.SIGTERM)
        try:
            code = self.server.wait(timeout_seconds=DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.outcome.unexpected.append(f"the coordinator did not end within {DRAIN_SECONDS:.0f} s of SIGTERM")
            self.server.kill()
        else:
            if code != 0:
                self.outcome.unexpected.append(f"exit code {code} after SIGTERM: {self.server.last_log_line()}")

    def conclude(self) -> None:
        """Send the clients home, end the coordinator, and look whether every promise was kept."""
        self._at_work.close()
        self.drain()
        memories = [client.memory for client in self.clients]
        found = examine(self.server.data_dir, memories)
        self.outcome.acknowledged = self._num_acknowledged()
        self.outcome.lost += found.lost
        self.outcome.doubled += found.doubled
        self.outcome.broken += [*found.invented, *found.breaches]
        for memory in memories:
            self.outcome.unexpected += memory.unexpected
            self.outcome.answers += memory.answers

    def _num_acknowledged(self) -> int:
        return sum(len(client.memory.acknowledged) for client in self.clients)

    def abandon(self) -> None:
        """End everything at once."""
        self.server.close()
        self._at_work.close()


@contextmanager
def session(
    kind: str,
    ground: Ground,
    *,
    clients: int = 8,
    job: Job = Job(),
    rounds_after: int = 2,
    tolerated: frozenset[int] = frozenset(),
    timeout_seconds: float = 10.0,
    environment: dict[str, str] | None = None,
    **server: Any,
) -> Iterator[Session]:
    """Run a coordinator with clients around a block that does it harm; then training must go on and nothing be lost."""
    environment = {"FED_COMPUTE_HEARTBEAT_SECONDS": f"{HEARTBEAT_SECONDS}", **(environment or {})}
    coordinator = Server(ground.folder, job=job.text(), environment=environment, warm=ground.warm, **server)
    running = Session(kind, coordinator, job, ground.watch)
    try:
        running.start()
        running.employ(clients, tolerated=tolerated, timeout_seconds=timeout_seconds)
        yield running
        running.goes_on(rounds=rounds_after)
        running.conclude()
    finally:
        running.abandon()
