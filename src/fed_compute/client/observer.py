"""What a client tells whoever watches it: named events with plain fields."""

from typing import Protocol

import structlog

from fed_compute.client.request_ids import request_id_of_last_answer


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

ANSWERS = frozenset(
    {
        "signed_in",
        "task_received",
        "update_accepted",
        "evaluated",
        "audited",
        "idle",
        "job_finished",
        "waiting",
        "update_refused",
        "measuring_failed",
        "task_released",
    }
)
"""Events that tell of an answer of the coordinator's; their lines carry its request id."""


class Observers:
    """Tells each event to several, in order."""

    def __init__(self, *observers: ClientObserver) -> None:
        self._observers = observers

    def event(self, name: str, **fields: object) -> None:
        for observer in self._observers:
            observer.event(name, **fields)


class LogObserver:
    """Writes each event but those of `MANY` to the structured log.

    Each line says whose it is (`client_id`), once that is known; one about a task also says the task's `job` and
    `round_id`, one about an answer the `request_id` under which the coordinator logged it.
    """

    def __init__(self) -> None:
        self._client: dict[str, object] = {}
        self._task: dict[str, object] = {}

    def event(self, name: str, **fields: object) -> None:
        if name in MANY:
            return
        if name == "signed_in":
            self._client = {"client_id": fields["client_id"]}
        elif name in ("task_received", "update_found"):
            self._task = {key: fields[key] for key in ("job", "round_id", "task_id")}
        known = self._client | (self._task if fields.get("task_id") == self._task.get("task_id", ...) else {})
        request_id = request_id_of_last_answer() if name in ANSWERS else None
        told = known if request_id is None else {**known, "request_id": request_id}
        structlog.get_logger("fed_compute.client").info(name, **{**told, **fields})
