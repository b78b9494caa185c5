"""A machine on which the real coordinator runs: it answers, works, loses its power, and starts again."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi import FastAPI

from fed_compute.clock import ManualClock
from fed_compute.coordinator import wiring
from fed_compute.coordinator.settings import CoordinatorSettings, load_settings
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.server.app import create_app
from tests.fault.simulated.database import Databases
from tests.fault.simulated.disk import Disk
from tests.fault.simulated.exchange import Answer, Exchange, Request, without_threads
from tests.fault.simulated.faults import Loss, PowerCut
from tests.fault.simulated.loop import VirtualLoop
from tests.fault.simulated.system_calls import Entropy, SystemCalls

DATA = "data"
MANY = 10**9
UNLIMITED = {
    "requests_per_minute": MANY,
    "updates_per_minute": MANY,
    "upload_mib_per_hour": MANY,
    "network_requests_per_minute": MANY,
    "network_updates_per_minute": MANY,
    "network_upload_mib_per_hour": MANY,
    "failed_authentications_per_minute": MANY,
    "registrations_per_hour": MANY,
    "newcomer_quota": MANY,
    "daily_quota": MANY,
}
"""No limits of rates: they are counted in the time of the real world."""
MOST_STARTS = 20


class Machine:
    """One computer. Everything that its coordinator does happens within a call of one of these methods."""

    def __init__(self, disk: Disk, *, clock: ManualClock) -> None:
        self.disk = disk
        self.num_starts = self.num_crashes = 0
        self._errors_before = 0
        self._clock = clock
        self._loop = VirtualLoop(clock)
        self._core: Coordinator | None = None
        self._app: FastAPI | None = None
        self._exchanges: list[Exchange] = []

    @property
    def is_up(self) -> bool:
        """Whether a coordinator runs."""
        return self._core is not None

    @property
    def core(self) -> Coordinator:
        """The coordinator that runs."""
        assert self._core is not None, "the machine is down"
        return self._core

    @property
    def num_errors(self) -> int:
        """How many persistence calls have failed so far."""
        return self._errors_before + self.disk.num_errors

    # --- power --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the coordinator, again and again if an armed fault stops it or makes it give up."""
        for _ in range(MOST_STARTS):
            errors = self.disk.num_errors
            try:
                self._start()
            except PowerCut:
                self.crash()
            except Exception:
                self._discard()
                if self.disk.num_errors == errors:
                    raise
            else:
                return
        raise AssertionError(f"the coordinator did not start in {MOST_STARTS} tries")

    def _start(self) -> None:
        settings = _kept().settings.model_copy(update={"data_dir": self.disk.root / DATA})
        core = open_coordinator(settings, clock=self._clock)
        self.num_starts += 1
        self._core = core
        self._app = create_app(core)
        _kept().share_routes(self._app)
        core.tasks.revive_leases()

    def cut_power(self, loss: Loss) -> None:
        """Stop the machine between two calls."""
        self.disk.cut(loss)
        self.crash()

    def crash(self) -> None:
        """Become a machine that has no power; `start` finds what the disk kept."""
        self.num_crashes += 1
        self._errors_before += self.disk.num_errors
        self.disk = self.disk.after_cut()
        self._discard()

    def stop(self) -> None:
        """End the coordinator in an orderly way."""
        self._discard()

    def close(self) -> None:
        """Give everything back."""
        self._discard()
        self._loop.close()

    def _discard(self) -> None:
        for exchange in self._exchanges:
            exchange.abandon()
        self._exchanges.clear()
        if self._core is not None:
            self._core.close()
        self._core = None

    # --- work ---------------------------------------------------------------------------------

    def begin(self, request: Request) -> Exchange:
        """Take the head of a request; its body is fed to the exchange."""
        assert self._app is not None, "the machine is down"
        exchange = Exchange(self._loop, self._app, request)
        self._exchanges = [*(other for other in self._exchanges if other.answer is None), exchange]
        return exchange

    def ask(self, request: Request) -> Answer:
        """Answer a request that has come whole.

        Raises:
            PowerCut: if the machine stops meanwhile.
        """
        exchange = self.begin(request)
        exchange.feed(request.body, is_last=True)
        assert exchange.answer is not None, f"{request.method} {request.path} was not answered"
        return exchange.answer

    def work(self) -> bool:
        """Run each background duty once; say whether there was anything to do. What failed on purpose may fail."""
        errors = self.disk.num_errors
        try:
            return any([self.core.worker.run_once(), self.core.slow_worker.run_once()])
        except Exception:
            if self.disk.num_errors == errors:
                raise
            return True

    def work_until_quiet(self) -> None:
        """Run the duties until nothing is left to do."""
        while self.work():
            pass


@dataclass(slots=True)
class _Kept:
    """What a process makes once, because making it takes longer than a short history."""

    settings: CoordinatorSettings = field(default_factory=lambda: load_settings(**UNLIMITED))
    databases: Databases = field(default_factory=Databases)
    routes: list[Any] = field(default_factory=list)
    """The application's, as built by its first requests. They hold no coordinator."""

    def share_routes(self, app: FastAPI) -> None:
        self.routes = self.routes or app.router.routes
        app.router.routes = self.routes


@cache
def _kept() -> _Kept:
    return _Kept()


@contextmanager
def machine(folder: Path, *, seed: str, clock: ManualClock) -> Iterator[Machine]:
    """A machine that is off, all of whose chance follows from `seed`. `folder` may hold data already.

    Only one at a time in a process: it takes the place of the system's calls.
    """
    disk = Disk(folder, clock=clock, chance=random.Random(f"{seed}: disk"))
    made, databases = Machine(disk, clock=clock), _kept().databases
    databases.use(lambda: made.disk)
    with pytest.MonkeyPatch.context() as patch, _silence():
        SystemCalls(lambda: made.disk).install(patch)
        Entropy(f"{seed}: entropy").install(patch)
        without_threads(patch)
        patch.setattr(wiring, "open_database", databases.open)
        try:
            yield made
        finally:
            made.close()


@contextmanager
def _silence() -> Iterator[None]:
    """Write no logs: there would be a line for each request."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
