"""The only way out: what leaves is kept, counted and written down first, then sent."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fed_compute.client.answers import is_documented
from fed_compute.client.api import CoordinatorApi, said, wire_form
from fed_compute.client.departures import DepartureLog, Kind
from fed_compute.client.guard import Guard
from fed_compute.client.spool import Spool, WaitingUpdate
from fed_compute.errors import CallRefused, CoordinatorBusy
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.messages import (
    SAFETENSORS_ZSTD,
    AuditRequest,
    EvaluationRequest,
    RegisterAnswer,
    RegisterRequest,
    TaskAnswer,
    TaskDone,
    UpdateAnswer,
)

_MOST_DOUBTS, _DOUBT_SECONDS = 2, 30.0
"""So often is a refusal without a code of the protocol doubted, with such a pause: proxies and hotspots give some."""


class Outbox:
    """Sends what holds anything of this machine: registrations, updates, measurements.

    Heartbeats, task requests and releases go without: they hold the client's id and how much of the
    work is done.
    """

    def __init__(self, api: CoordinatorApi, log: DepartureLog, guard: Guard, spool: Spool) -> None:
        self._api = api
        self._log = log
        self._guard = guard
        self._spool = spool
        self._last_registration = ""

    def register(self, request: RegisterRequest) -> RegisterAnswer:
        """Register. A repetition of the same words is logged once.

        Raises:
            StateUnusable: if it cannot be written down. Nothing was sent then.
        """
        body = wire_form(request)
        if (digest := sha256_hex(body)) != self._last_registration:
            says = said(request)
            if "invite" in says:
                says["invite"] = "(not logged)"
            self._log.write_down("registration", body, says=says)
            self._last_registration = digest
        return self._api.register(request)

    @property
    def spool(self) -> Spool:
        """The updates that wait for their answer."""
        return self._spool

    def offer(
        self, waiting: WaitingUpdate, *, on_sent: Callable[[int], None] = lambda num_bytes: None
    ) -> Callable[[], UpdateAnswer]:
        """Count and write down an update of the spool; return what sends it, as often as it takes.

        One that is in the log already left before this process began, and is neither counted nor logged
        again. `on_sent` is told how many of its bytes are sent. A refusal that no coordinator gives, but
        something on the way, is taken as final only the third time.

        Raises:
            PolicyRefusal: if today's last update has left already.
            StateUnusable: if it cannot be written down. Nothing was sent then.
        """
        task, body = waiting.task, waiting.body
        if waiting.is_new or not self._log.names(body, task_id=task.task_id):
            self._guard.spend_round()
            suffix = "safetensors.zst" if waiting.content_type == SAFETENSORS_ZSTD else "safetensors"
            self._log.write_down(
                "update", body, suffix=suffix, says=dict(waiting.says), norm=asdict(waiting.norm), **_named(task)
            )
        doubts = 0

        def send() -> UpdateAnswer:
            nonlocal doubts
            try:
                return self._api.submit_update(task.task_id, body, waiting.content_type, on_sent=on_sent)
            except CallRefused as error:
                doubts += 1
                if is_documented(error) or doubts > _MOST_DOUBTS:
                    raise
                raise CoordinatorBusy(
                    error.message, retry_after_seconds=_DOUBT_SECONDS, told=True, **error.details
                ) from error

        return send

    def measurement(self, task: TaskAnswer, measured: EvaluationRequest | AuditRequest) -> Callable[[], TaskDone]:
        """Write down a measurement; return what sends it, as often as it takes.

        Raises:
            StateUnusable: if it cannot be written down. Nothing was sent then.
        """
        kind: Kind = "audit" if isinstance(measured, AuditRequest) else "evaluation"
        self._log.write_down(kind, wire_form(measured), says=said(measured), **_named(task))
        return lambda: self._api.submit_measurement(task.task_id, measured)


def _named(task: TaskAnswer) -> dict[str, Any]:
    return {
        "job": task.job, "round_id": task.round_id, "model_version": task.model_version, "task_id": task.task_id,
    }  # fmt: skip
