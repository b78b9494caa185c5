"""What a client tells whoever watches it: named events with plain fields."""

from typing import Protocol

import structlog


class ClientObserver(Protocol):
    """Receives each event as it happens, in the thread that runs the client. Must be quick and not raise.

    Events, in the order of a usual task: `signed_in`, `task_received` (once it is admitted), `progress` (many),
    `trained`, `sending`, `update_accepted`, or `evaluated`, or `audited`; besides `idle`, `waiting`,
    `update_refused`, `training_failed`, `measuring_failed`, `policy_refused`, `resting`, `task_over`,
    `dropped_out`, `task_released`, `job_finished`, `stopped`.
    """

    def event(self, name: str, **fields: object) -> None:
        """Take note of one event."""
        ...


class LogObserver:
    """Writes each event but `progress` to the structured log."""

    def event(self, name: str, **fields: object) -> None:
        if name != "progress":
            structlog.get_logger("fed_compute.client").info(name, **fields)
