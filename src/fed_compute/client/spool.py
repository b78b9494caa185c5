"""Finished updates on the disk, from before their first byte is sent until the coordinator has answered."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fed_compute.client.finishing import LeftBehind
from fed_compute.client.memory import packed, unpacked
from fed_compute.client.observer import ClientObserver
from fed_compute.client.own_folder import WAITING_SUFFIX, OwnFolder, waiting_files
from fed_compute.client.private_files import move, remove
from fed_compute.client.sealed_files import Sealed, TornFile, read_sealed, write_sealed
from fed_compute.client.work import FinishedUpdate, NormReport
from fed_compute.errors import StateUnusable
from fed_compute.learning.compression import Residual
from fed_compute.protocol.messages import TaskAnswer


@dataclass(frozen=True, slots=True, eq=False)
class WaitingUpdate:
    """An update that waits for its answer, and all that is needed to send it and to go on from it.

    `is_new` says that this process has made it; else an earlier one has, which may have sent it.
    """

    task: TaskAnswer
    body: bytes
    content_type: str
    says: Mapping[str, int | float]
    norm: NormReport
    loss: float
    left: LeftBehind
    is_new: bool


class Spool:
    """One client's finished updates, at most `max_bytes` of them. What was accepted or refused leaves it."""

    def __init__(self, folder: OwnFolder, observer: ClientObserver, *, max_bytes: int) -> None:
        self._folder = folder
        self._observer = observer
        self._max_bytes = max_bytes

    def put(self, task: TaskAnswer, update: FinishedUpdate) -> WaitingUpdate:
        """Keep a finished update. It would survive a power cut when this returns.

        If there is no room, what was set aside goes first, then the oldest.

        Raises:
            StateUnusable: if it cannot be written. Nothing of it is there then.
        """
        waiting = WaitingUpdate(
            task=task,
            body=update.body,
            content_type=update.content_type,
            says=update.says,
            norm=update.norm,
            loss=update.result.loss,
            left=update.left,
            is_new=True,
        )
        head, parts = _closed(waiting)
        try:
            self._make_room(sum(map(len, parts)))
            write_sealed(self._file(task.task_id), head, parts, durable=True)
        except OSError as error:
            raise StateUnusable(
                f"{self._file(task.task_id)} cannot be written: {error}; nothing is sent that is not kept first: "
                "free some space, or set CLIENT_STATE_DIR to a folder of yours"
            ) from error
        return waiting

    def waiting(self) -> Iterator[WaitingUpdate]:
        """Yield what an earlier process left, the oldest first. What is torn is set aside and told.

        Raises:
            StateUnusable: if the folder cannot be read.
        """
        try:
            for unfinished in self._folder.spool.glob(".*"):
                unfinished.unlink()  # the process died while it wrote this
            for file in waiting_files(self._folder.spool):
                try:
                    found = _opened(read_sealed(file))
                except (TornFile, ValidationError, LookupError, TypeError) as error:  # or of another version
                    self._set_aside(file, why=str(error))
                else:
                    yield found
        except OSError as error:
            raise StateUnusable(f"the spool {self._folder.spool} cannot be read: {error}") from error

    def holds(self, task_id: str) -> bool:
        """Say whether a task's update still waits."""
        return self._file(task_id).exists()

    def remove(self, task_id: str) -> None:
        """Forget an update: it was accepted, or finally refused.

        Raises:
            StateUnusable: if it cannot be removed; it will be sent again, which does no harm.
        """
        try:
            remove(self._file(task_id))
        except OSError as error:
            raise StateUnusable(f"{self._file(task_id)} cannot be removed: {error}") from error

    def set_aside(self, task_id: str, *, why: str) -> None:
        """Keep an update, but do not send it any more, and say so.

        Raises:
            StateUnusable: if it cannot be moved.
        """
        try:
            self._set_aside(self._file(task_id), why=why)
        except OSError as error:
            raise StateUnusable(f"{self._file(task_id)} cannot be set aside: {error}") from error

    def _file(self, task_id: str) -> Path:
        return self._folder.spool / f"{task_id}{WAITING_SUFFIX}"

    def _set_aside(self, file: Path, *, why: str) -> None:
        self._folder.aside.mkdir(mode=0o700, exist_ok=True)
        kept = self._folder.aside / file.name
        move(file, kept)
        self._observer.event("update_set_aside", file=str(kept), why=why)

    def _make_room(self, num_bytes: int) -> None:
        present = [*waiting_files(self._folder.aside), *waiting_files(self._folder.spool)]
        left = self._max_bytes - num_bytes - sum(file.stat().st_size for file in present)
        for file in present:
            if left >= 0:
                return
            left += file.stat().st_size
            remove(file)
            self._observer.event("update_dropped", file=str(file), why="the spool is full")


def _closed(waiting: WaitingUpdate) -> tuple[dict[str, Any], list[bytes | memoryview]]:
    head = {
        "task": waiting.task.model_dump(mode="json"),
        "content_type": waiting.content_type,
        "says": dict(waiting.says),
        "norm": asdict(waiting.norm),
        "loss": waiting.loss,
    }
    parts: list[bytes | memoryview] = [waiting.body]
    if waiting.left.residual is not None:
        parts.append(packed(waiting.left.residual.unsent))
    if waiting.left.control is not None:
        head["control"] = True
        parts.append(packed(waiting.left.control))
    return head, parts


def _opened(sealed: Sealed) -> WaitingUpdate:
    head, (body, *rest) = sealed.head, sealed.parts
    control = unpacked(rest.pop()) if "control" in head else None
    return WaitingUpdate(
        task=TaskAnswer.model_validate(head["task"]),
        body=bytes(body),
        content_type=head["content_type"],
        says=head["says"],
        norm=NormReport(**head["norm"]),
        loss=head["loss"],
        left=LeftBehind(residual=Residual(unpacked(rest[0])) if rest else None, control=control),
        is_new=False,
    )
