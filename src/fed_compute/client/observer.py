"""What a client tells whoever watches it: named events with plain fields."""

from typing import Protocol

import structlog


class ClientObserver(Protocol):
    """Receives each event as it happens, in the thread that runs the client. Must be quick and not raise.

    Events, in the order of a usual task: `signed_in`, `task_received` (once it is admitted), `progress` (many),
    `trained`, `sending`, `uploading` (many), `update_accepted`, or `evaluated`, or `audited`; besides `idle`,
    `waiting`, `update_found`, `update_refused`, `update_set_aside`, `update_dropped`, `training_resumed`,
    `training_failed`, `measuring_failed`, `checkpoint_failed`, `residual_lost`, `control_lost`, `policy_refused`,
    `resting`, `paused`, `resumed`, `task_over`, `dropped_out`, `task_released`, `job_finished`, `finished`, `stopped`.
    """

    def event(self, name: str, **fields: object) -> None:
        """Take note of one event."""
        ...


MANY = frozenset({"progress", "uploading"})
"""Events that come many times in a second, and tell only how far something is."""


class Observers:
    """Tells each event to several, in order."""

    def __init__(self, *observers: ClientObserver) -> None:
        self._observers = observers

    def event(self, name: str, **fields: object) -> None:
        for observer in self._observers:
            observer.event(name, **fields)


class LogObserver:
    """Writes each event but those of `MANY` to the structured log."""

    def event(self, name: str, **fields: object) -> None:
        if name not in MANY:
            structlog.get_logger("fed_compute.client").info(name, **fields)
