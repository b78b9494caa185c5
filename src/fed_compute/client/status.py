"""What a client is doing and has done today: a picture that each of its events changes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal

Doing = Literal["starting", "waiting", "training", "measuring", "sending", "resting", "paused", "ended"]


@dataclass(frozen=True, slots=True)
class Task:
    """The task under way. `fraction` of its training is done, 0 to 1; `sent` of its update's `num_bytes` are sent."""

    task_id: str
    job: str
    round_id: int
    model_version: str
    fraction: float = 0.0
    num_bytes: int | None = None
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Today:
    """What became of this client's tasks on `day`, the local date in ISO 8601."""

    day: str = ""
    accepted: int = 0
    measured: int = 0
    over: int = 0
    refused: int = 0
    failed: int = 0
    given_back: int = 0
    training_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Status:
    """A client as its last event left it. Times are Unix seconds.

    `why` explains `doing`; `trouble` says why the coordinator cannot be reached now.
    """

    coordinator: str
    pid: int
    run: str
    started_at: float
    updated_at: float
    since: float
    client_id: str | None = None
    doing: Doing = "starting"
    why: str | None = None
    trouble: str | None = None
    task: Task | None = None
    today: Today = field(default_factory=Today)


_COUNTED = {
    "update_accepted": "accepted", "evaluated": "measured", "audited": "measured", "task_over": "over",
    "dropped_out": "over", "update_refused": "refused", "training_failed": "failed", "measuring_failed": "failed",
    "task_released": "given_back",
}  # fmt: skip
_DOING: Mapping[str, Doing] = {
    "signed_in": "waiting", "idle": "waiting", "job_finished": "waiting", "paused": "paused", "resumed": "training",
    "trained": "sending", "update_found": "sending", "finished": "ended", "stopped": "ended",
}  # fmt: skip
_OF_A_TASK = ("task_received", "update_found")


def after(status: Status, name: str, fields: Mapping[str, Any], *, now: float, today: date) -> Status:
    """Return the picture after an event at `now`, Unix seconds, on a local date."""
    doing = _doing_after(name, fields) or status.doing
    since = status.since if doing == status.doing else now
    why = status.why if doing == status.doing and "why" not in fields else fields.get("why")
    trouble = fields.get("why") if name == "waiting" else None
    return replace(
        status,
        client_id=fields["client_id"] if name == "signed_in" else status.client_id,
        doing=doing,
        since=since,
        why=status.why if name == "waiting" else why,
        trouble=trouble,
        task=_task_after(status.task, name, fields),
        today=_today_after(status.today, name, fields, today),
        updated_at=now,
    )


def _doing_after(name: str, fields: Mapping[str, Any]) -> Doing | None:
    """Return what the client does after an event, None if the event does not say."""
    match name:
        case "task_received":
            return "training" if fields["task"] == "train" else "measuring"
        case "resting":
            return "paused" if fields["limit"] == "pause" else "resting"
        case _ if name in _COUNTED:
            return "waiting"
    return _DOING.get(name)


def _task_after(task: Task | None, name: str, fields: Mapping[str, Any]) -> Task | None:
    if name in _OF_A_TASK:
        task = Task(fields["task_id"], fields["job"], fields["round_id"], fields["model_version"])
        return replace(task, fraction=1.0, num_bytes=fields["bytes"]) if name == "update_found" else task
    if task is None or name in _COUNTED:
        return None
    match name:
        case "progress":
            return replace(task, fraction=fields["fraction"])
        case "trained":
            return replace(task, fraction=1.0, num_bytes=fields["bytes"])
        case "uploading":
            return replace(task, sent=fields["sent"])
    return task


def _today_after(today: Today, name: str, fields: Mapping[str, Any], day: date) -> Today:
    if today.day != day.isoformat():
        today = Today(day.isoformat())
    if name == "trained":
        return replace(today, training_seconds=today.training_seconds + fields["seconds"])
    counted = _COUNTED.get(name)
    return today if counted is None else replace(today, **{counted: getattr(today, counted) + 1})
