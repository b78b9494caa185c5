"""How this process is: ready or not, which duties fail, what waits, how much room there is."""

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fed_compute.coordinator.backlog import Backlog, backlog_of
from fed_compute.server.dependencies import ServerState


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of the data folder, and what the database takes of it, in bytes."""

    total_bytes: int
    free_bytes: int
    database_bytes: int | None


@dataclass(frozen=True, slots=True)
class Condition:
    """How one server process is. `failing` maps duties to reasons, which are for staff only."""

    status: Literal["ready", "draining", "failing"]
    failing: Mapping[str, str]
    backlog: Backlog
    waiting_clients: int
    arriving_updates: int
    disk: Disk
    python: str


def condition_of(state: ServerState) -> Condition:
    """Return how this process is now."""
    core = state.coordinator
    failing = {**core.worker.failing(), **core.slow_worker.failing()}
    usage = shutil.disk_usage(core.data_dir.path)
    file = core.data_dir.database
    return Condition(
        status="draining" if state.news.closing else "failing" if core.worker.failing() else "ready",
        failing=dict(sorted(failing.items())),
        backlog=backlog_of(core.store),
        waiting_clients=state.news.waiting_room.num_waiting,
        arriving_updates=state.seats.num_taken,
        disk=Disk(usage.total, usage.free, file.stat().st_size if file.exists() else None),
        python=platform.python_version(),
    )
