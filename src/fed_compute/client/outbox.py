"""The only way out: what leaves is counted and written down first, then sent."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fed_compute.client.api import CoordinatorApi, said, wire_form
from fed_compute.client.departures import DepartureLog, Kind
from fed_compute.client.guard import Guard
from fed_compute.client.work import FinishedUpdate
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


class Outbox:
    """Sends what holds anything of this machine: registrations, updates, measurements.

    Heartbeats, task requests and releases go without: they hold the client's id and how much of the
    work is done.
    """

    def __init__(self, api: CoordinatorApi, log: DepartureLog, guard: Guard) -> None:
        self._api = api
        self._log = log
        self._guard = guard
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

    def update(self, task: TaskAnswer, update: FinishedUpdate) -> Callable[[], UpdateAnswer]:
        """Count and write down an update; return what sends it, as often as it takes.

        Raises:
            PolicyRefusal: if today's last update has left already.
            StateUnusable: if it cannot be written down. Nothing was sent then.
        """
        self._guard.spend_round()
        suffix = "safetensors.zst" if update.content_type == SAFETENSORS_ZSTD else "safetensors"
        self._log.write_down(
            "update", update.body, suffix=suffix, says=dict(update.says), norm=asdict(update.norm), **_named(task)
        )
        return lambda: self._api.submit_update(task.task_id, update.body, update.content_type)

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
