"""A whole client at a coordinator in memory, on a clock that costs no time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fed_compute.client.api import CoordinatorApi
from fed_compute.client.backoff import Backoff
from fed_compute.client.client import Client
from fed_compute.client.config import load_settings
from fed_compute.client.datasets import Dataset
from fed_compute.client.departures import SentLog, read_sent, sent_folder
from fed_compute.client.observer import MANY
from fed_compute.client.patience import pause
from fed_compute.client.stop_sign import StopSign
from fed_compute.client.surroundings import Surroundings
from fed_compute.client.wiring import assemble
from fed_compute.clock import ManualClock
from tests.unit.client.fake_coordinator import FakeCoordinator
from tests.unit.client.recipes import blobs

NOON = datetime(2026, 3, 2, 12).timestamp()
"""A Monday, in whatever time zone the tests run; far from any change of the clocks."""

Event = tuple[str, dict[str, Any]]


@dataclass
class Watcher:
    """Keeps every event but those that come many times; `on` may act on them all as they come."""

    on: Callable[[str, dict[str, Any]], None] = lambda name, fields: None
    events: list[Event] = field(default_factory=list)

    def event(self, name: str, **fields: object) -> None:
        if name not in MANY:
            self.events.append((name, fields))
        self.on(name, fields)

    def names(self) -> list[str]:
        """Return the names of the events in order."""
        return [name for name, _ in self.events]

    def all(self, name: str) -> list[dict[str, Any]]:
        """Return the fields of each event of one name."""
        return [fields for found, fields in self.events if found == name]


@dataclass
class Volunteer:
    """A client, what it stands on, and what became known of it."""

    client: Client
    clock: ManualClock
    watcher: Watcher
    stop: StopSign
    state_dir: Path

    def run(self, **how: Any) -> int:
        """Let the client run; it must end by itself or be stopped by the watcher."""
        return self.client.run(stop=self.stop, **how)

    def stop_at(self, event: str, *, times: int = 1) -> None:
        """Ask the client to stop when an event has come so often."""

        def act(name: str, fields: dict[str, Any]) -> None:
            if name == event and self.watcher.names().count(event) >= times:
                self.stop.set()

        self.watcher.on = act

    @property
    def sent(self) -> SentLog:
        """The log of what left this machine."""
        return read_sent(sent_folder(self.state_dir))


def volunteer_at(
    coordinator: FakeCoordinator,
    state_dir: Path,
    *,
    data: Dataset | None = None,
    clock: ManualClock | None = None,
    max_retries: int = 0,
    **limits: Any,
) -> Volunteer:
    """Return a client of the coordinator with the given settings, such as `client_min_cohort=3`."""
    clock, watcher, stop = clock or ManualClock(NOON), Watcher(), StopSign()
    settings = load_settings(
        coordinator_url="http://coordinator.test", client_state_dir=state_dir, client_device="cpu", **limits
    )
    api = CoordinatorApi(
        settings.coordinator_url,
        max_retries=max_retries,
        backoff=Backoff(clock, np.random.Generator(np.random.PCG64(1)), base=2.0),
        pause=partial(pause, clock=clock, stop=stop),
        give_up=stop.is_set,
        piece_bytes=round(settings.client_upload_piece_megabytes * 1e6),
        transport=coordinator.transport(),
    )
    around = Surroundings(clock=clock, observer=watcher, rng=np.random.Generator(np.random.PCG64(0)))
    return Volunteer(assemble(settings, api, data or blobs(100), around), clock, watcher, stop, state_dir)
