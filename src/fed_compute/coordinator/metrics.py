"""Reads the journal and counts: totals of the system, and one record for each round."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

from fed_compute.coordinator.journal_reader import Payload, State, catch_up
from fed_compute.coordinator.totals import add_up
from fed_compute.errors import RoundNotFound
from fed_compute.ids import JobId, RoundId
from fed_compute.rounds.records import Entry, RoundState, TaskKind
from fed_compute.storage.sql.store import Records, Store

READER = "metrics"
EVENTS, JOBS = "events", "jobs"
"""What the reader keeps beside its cursor: counts of events by kind, and what was added up for each job."""
REFUSED = "refused:"
"""What stands before the code of a refusal among the counts of events."""


@dataclass(slots=True)
class RoundMetrics:
    """What happened in one round. Seconds are durations, losses are weighted by samples."""

    round_id: int
    job_id: int
    number: int
    base_version: int
    mode: str
    opened_at: float
    state: str = RoundState.OPEN
    started_at: float | None = None
    closed_at: float | None = None
    result_version: int | None = None
    reason: str | None = None
    clients: list[str] = field(default_factory=list)
    tasks_assigned: int = 0
    tasks_expired: int = 0
    tasks_released: int = 0
    tasks_cancelled: int = 0
    updates_accepted: int = 0
    updates_refused: int = 0
    updates_late: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    bytes_received: int = 0
    num_samples: int = 0
    latency_seconds_sum: float = 0.0
    train_loss_sum: float = 0.0
    train_loss_samples: int = 0
    evaluations: int = 0
    evaluation_samples: int = 0
    evaluation_loss_sum: float = 0.0
    accuracy_sum: float = 0.0
    accuracy_samples: int = 0

    def summary(self) -> dict[str, Any]:
        """Return the record as the API shows it: sums become means, versions become `v3`."""
        shown = {
            key: value
            for key, value in dataclasses.asdict(self).items()
            if not key.endswith("_sum") and key not in ("job_id", "train_loss_samples", "accuracy_samples")
        }
        ended, started = self.closed_at, self.started_at
        return {
            **shown,
            "base_version": f"v{self.base_version}",
            "result_version": None if self.result_version is None else f"v{self.result_version}",
            "duration_seconds": ended - started if ended is not None and started is not None else None,
            "mean_latency_seconds": _mean(self.latency_seconds_sum, self.updates_accepted),
            "train_loss": _mean(self.train_loss_sum, self.train_loss_samples),
            "evaluation_loss": _mean(self.evaluation_loss_sum, self.evaluation_samples),
            "accuracy": _mean(self.accuracy_sum, self.accuracy_samples),
        }

    @classmethod
    def opened(cls, round_id: RoundId, job_id: JobId, payload: Payload, *, at: float) -> Self:
        """Return the record of a round that was just opened."""
        return cls(
            round_id=round_id,
            job_id=job_id,
            number=payload["number"],
            base_version=payload["base_version"],
            mode=payload["mode"],
            opened_at=at,
        )


class MetricsCollector:
    """Folds the journal into counts. Nobody on an update's way calls it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_of_this_version = False

    def catch_up(self) -> bool:
        """Take in what the journal has that was not seen yet."""
        self._begin_anew_if_older()
        pages = _Pages()
        return catch_up(self._store, READER, pages.fold, flush=pages.write)

    def totals(self) -> dict[str, int]:
        """Return how often each kind of event happened since the beginning, by kind, and refusals by code."""
        self.catch_up()
        with self._store.snapshot() as records:
            _, state = records.journal.cursor(READER)
            return dict(sorted(state.get(EVENTS, {}).items()))

    def rounds(self) -> list[RoundMetrics]:
        """Return every round's record, oldest first."""
        self.catch_up()
        with self._store.snapshot() as records:
            return [RoundMetrics(**kept) for kept in records.round_metrics.all().values()]

    def latest(self) -> RoundMetrics:
        """Return the record of the newest round in which a task was handed out; before the first, the newest round's.

        There must be a job.
        """
        with self._store.snapshot() as records:
            newest = records.measured.newest_round()
        return self.round(newest)

    def round(self, round_id: int) -> RoundMetrics:
        """Return one round's record.

        Raises:
            RoundNotFound: if there is no such round.
        """
        self.catch_up()
        with self._store.snapshot() as records:
            kept = records.round_metrics.get(round_id)
        if kept is None:
            raise RoundNotFound(round_id)
        return RoundMetrics(**kept)

    def _begin_anew_if_older(self) -> None:
        """Read the journal from its beginning if an earlier version of the product kept less of it."""
        if self._is_of_this_version:
            return
        with self._store.snapshot() as records:
            seq, state = records.journal.cursor(READER)
        if seq and JOBS not in state:
            with self._store.transaction() as records:
                records.round_metrics.clear()
                records.journal.move_cursor(READER, 0, {})
        self._is_of_this_version = True


class _Pages:
    """The rounds that a batch of entries is about, each read and written once however many entries that are."""

    def __init__(self) -> None:
        self._open: dict[RoundId, RoundMetrics] = {}

    def fold(self, records: Records, entry: Entry, payload: Payload, state: State) -> None:
        """Take one entry in."""
        events: dict[str, int] = state.setdefault(EVENTS, {})
        _count(events, entry.kind)
        if entry.kind == "update_refused":
            _count(events, f"{REFUSED}{payload['code']}")
        add_up(state.setdefault(JOBS, {}), entry, payload)
        if entry.round_id is None or entry.job_id is None:
            return
        if entry.kind == "round_opened":
            self._open[entry.round_id] = RoundMetrics.opened(entry.round_id, entry.job_id, payload, at=entry.at)
        elif (metrics := self._page(records, entry.round_id)) is not None:
            _take_in(metrics, entry, payload)

    def write(self, records: Records) -> None:
        """Write what was taken in, and forget it: somebody else may read the next batch."""
        for round_id, metrics in self._open.items():
            records.round_metrics.put(round_id, dataclasses.asdict(metrics), job_id=metrics.job_id)
        self._open.clear()

    def _page(self, records: Records, round_id: RoundId) -> RoundMetrics | None:
        if round_id not in self._open:
            kept = records.round_metrics.get(round_id)
            if kept is None:
                return None
            self._open[round_id] = RoundMetrics(**kept)
        return self._open[round_id]


def _take_in(metrics: RoundMetrics, entry: Entry, payload: Payload) -> None:
    match entry.kind:
        case "round_started":
            metrics.state, metrics.started_at = RoundState.COLLECTING, entry.at
        case "round_aggregating":
            metrics.state = RoundState.AGGREGATING
        case "round_closed":
            metrics.state, metrics.closed_at = RoundState.CLOSED, entry.at
            metrics.result_version = payload["version"]
        case "round_abandoned":
            metrics.state, metrics.closed_at, metrics.reason = RoundState.ABANDONED, entry.at, payload["reason"]
        case "update_accepted":
            _take_in_update(metrics, payload)
        case "update_refused":
            metrics.updates_refused += 1
            _count(metrics.refusals, payload["code"])
        case "update_late":
            metrics.updates_late += 1
        case "evaluation_recorded":
            _take_in_evaluation(metrics, payload)
        case _ if payload.get("task") == TaskKind.TRAIN:
            _take_in_task(metrics, entry)


def _take_in_task(metrics: RoundMetrics, entry: Entry) -> None:
    match entry.kind:
        case "task_assigned":
            metrics.tasks_assigned += 1
            if entry.client_id is not None and entry.client_id not in metrics.clients:
                metrics.clients.append(entry.client_id)
        case "task_expired":
            metrics.tasks_expired += 1
        case "task_released":
            metrics.tasks_released += 1
        case "task_cancelled":
            metrics.tasks_cancelled += 1


def _take_in_update(metrics: RoundMetrics, payload: Payload) -> None:
    metrics.updates_accepted += 1
    metrics.bytes_received += payload["size_bytes"]
    metrics.num_samples += payload["num_samples"]
    metrics.latency_seconds_sum += payload["latency_seconds"]
    if payload["loss"] is not None:
        metrics.train_loss_sum += payload["loss"] * payload["num_samples"]
        metrics.train_loss_samples += payload["num_samples"]


def _take_in_evaluation(metrics: RoundMetrics, payload: Payload) -> None:
    metrics.evaluations += 1
    metrics.evaluation_samples += payload["num_samples"]
    metrics.evaluation_loss_sum += payload["loss"] * payload["num_samples"]
    if payload["accuracy"] is not None:
        metrics.accuracy_sum += payload["accuracy"] * payload["num_samples"]
        metrics.accuracy_samples += payload["num_samples"]


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None
