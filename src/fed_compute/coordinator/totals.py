"""Adds up what happened in each job, line by line of the journal: telling it costs the same however long it ran."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fed_compute.coordinator.journal_reader import Payload, State
from fed_compute.ids import JobId
from fed_compute.rounds.records import Entry

SECONDS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)
"""Bounds for what takes seconds on one machine and hours on another."""
SHORT_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)
VERSIONS = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)

_TASK_ENDS = {f"task_{end}": end for end in ("assigned", "expired", "released", "cancelled")}
_UPDATE_ENDS = {f"update_{end}": end for end in ("accepted", "refused", "late")}
_ROUND_ENDS = {f"round_{end}": end for end in ("opened", "closed", "abandoned")}


@dataclass(frozen=True, slots=True)
class Distribution:
    """How values spread: `counts[i]` were at most `bounds[i]` and above the bound before, the last one beyond all."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    def cumulative(self) -> list[tuple[str, float]]:
        """Return how many values were at most each bound, as Prometheus writes bounds, the last of them `+Inf`."""
        named = [*(f"{bound:.10g}" if bound % 1 else f"{bound:.1f}" for bound in self.bounds), "+Inf"]
        return [(name, float(sum(self.counts[: place + 1]))) for place, name in enumerate(named)]


@dataclass(frozen=True, slots=True)
class JobTotals:
    """What happened in one job so far. Losses and accuracy are means weighted by samples, None before the first.

    `tasks` counts by kind and outcome, `updates` and `rounds` by outcome. `train_loss` is of the newest round that was
    closed, the other two of the newest version that was measured. `round_seconds` leave the job's pauses out.
    Times are Unix seconds.
    """

    rounds: Mapping[str, int]
    tasks: Mapping[tuple[str, str], int]
    updates: Mapping[str, int]
    update_bytes: int
    num_samples: int
    round_seconds: Distribution
    aggregation_seconds: Distribution
    latency_seconds: Distribution
    staleness: Distribution
    last_closed_at: float | None
    train_loss: float | None
    evaluation_loss: float | None
    accuracy: float | None


def totals_in(kept: Mapping[str, Any], job_id: JobId) -> JobTotals:
    """Return what was added up for a job; zeros if that is nothing."""
    return _shown(kept.get(str(job_id), _nothing()))


def _nothing() -> State:
    return {"counts": {}, "spread": {}, "live": {}}


def _shown(kept: Mapping[str, Any]) -> JobTotals:
    counts: Mapping[str, int] = kept["counts"]
    tasks = {}
    for name in counts:
        if name.startswith("task/"):
            _, kind, outcome = name.split("/")
            tasks[kind, outcome] = counts[name]
    return JobTotals(
        rounds={outcome: counts.get(f"round/{outcome}", 0) for outcome in _ROUND_ENDS.values()},
        tasks=tasks,
        updates={outcome: counts.get(f"update/{outcome}", 0) for outcome in _UPDATE_ENDS.values()},
        update_bytes=counts.get("update_bytes", 0),
        num_samples=counts.get("num_samples", 0),
        round_seconds=_distribution(kept, "round_seconds", SECONDS),
        aggregation_seconds=_distribution(kept, "aggregation_seconds", SHORT_SECONDS),
        latency_seconds=_distribution(kept, "latency_seconds", SECONDS),
        staleness=_distribution(kept, "staleness", VERSIONS),
        last_closed_at=kept.get("last_closed_at"),
        train_loss=kept.get("train_loss"),
        evaluation_loss=_mean(kept.get("evaluation_loss", (0.0, 0))),
        accuracy=_mean(kept.get("accuracy", (0.0, 0))),
    )


def add_up(kept_by_job: State, entry: Entry, payload: Payload) -> None:
    """Take one line of the journal in. `kept_by_job` is plain JSON data, some hundred bytes for each job."""
    if entry.job_id is None:
        return
    kept = kept_by_job.setdefault(str(entry.job_id), _nothing())
    if (outcome := _TASK_ENDS.get(entry.kind)) is not None:
        _count(kept, f"task/{payload['task']}/{outcome}")
    elif (outcome := _UPDATE_ENDS.get(entry.kind)) is not None:
        _count(kept, f"update/{outcome}")
        if outcome == "accepted":
            _take_in_update(kept, entry, payload)
    elif entry.kind == "evaluation_recorded":
        _take_in_evaluation(kept, payload)
    elif entry.kind.startswith("round_"):
        _take_in_round(kept, entry)
    elif entry.kind == "job_paused":
        kept.setdefault("paused_at", entry.at)
    elif entry.kind == "job_resumed":
        _go_on(kept, at=entry.at)


def _take_in_update(kept: State, entry: Entry, payload: Payload) -> None:
    _count(kept, "update_bytes", payload["size_bytes"])
    _count(kept, "num_samples", payload["num_samples"])
    _spread(kept, "latency_seconds", SECONDS, payload["latency_seconds"])
    _spread(kept, "staleness", VERSIONS, payload.get("staleness", 0))
    if payload["loss"] is not None:
        live = kept["live"].setdefault(str(entry.round_id), {})
        _weigh(live, "loss", payload["loss"], payload["num_samples"])


def _take_in_evaluation(kept: State, payload: Payload) -> None:
    """Only the newest version counts: a late word on an older one says nothing of how the job stands."""
    if payload["version"] > kept.get("measured_version", 0):
        kept["measured_version"] = payload["version"]
        kept["evaluation_loss"], kept["accuracy"] = [0.0, 0], [0.0, 0]
    if payload["version"] == kept["measured_version"]:
        _weigh(kept, "evaluation_loss", payload["loss"], payload["num_samples"])
        if payload["accuracy"] is not None:
            _weigh(kept, "accuracy", payload["accuracy"], payload["num_samples"])


def _take_in_round(kept: State, entry: Entry) -> None:
    if (outcome := _ROUND_ENDS.get(entry.kind)) is not None:
        _count(kept, f"round/{outcome}")
    live, name = kept["live"], str(entry.round_id)
    match entry.kind:
        case "round_started":
            live.setdefault(name, {})["started_at"] = entry.at
        case "round_aggregating":
            live.setdefault(name, {})["aggregating_at"] = entry.at
        case "round_closed":
            _take_in_result(kept, live.pop(name, {}), at=entry.at)
        case "round_abandoned":
            live.pop(name, None)


def _go_on(kept: State, *, at: float) -> None:
    """Leave a pause out of how long the live round takes."""
    paused_at = kept.pop("paused_at", at)
    for round_ in kept["live"].values():
        if "started_at" in round_:
            round_["started_at"] += at - max(paused_at, round_["started_at"])


def _take_in_result(kept: State, round_: State, *, at: float) -> None:
    if "started_at" in round_:
        until = min(at, kept.get("paused_at", at))
        _spread(kept, "round_seconds", SECONDS, max(0.0, until - round_["started_at"]))
    if "aggregating_at" in round_:
        _spread(kept, "aggregation_seconds", SHORT_SECONDS, max(0.0, at - round_["aggregating_at"]))
    kept["last_closed_at"], kept["train_loss"] = at, _mean(round_.get("loss", (0.0, 0)))


def _count(kept: State, name: str, amount: int = 1) -> None:
    kept["counts"][name] = kept["counts"].get(name, 0) + amount


def _spread(kept: State, name: str, bounds: tuple[float, ...], value: float) -> None:
    spread = kept["spread"].setdefault(name, {"counts": [0] * (len(bounds) + 1), "total": 0.0})
    spread["counts"][bisect_left(bounds, value)] += 1
    spread["total"] += value


def _distribution(kept: Mapping[str, Any], name: str, bounds: tuple[float, ...]) -> Distribution:
    spread = kept["spread"].get(name, {"counts": [0] * (len(bounds) + 1), "total": 0.0})
    return Distribution(bounds, tuple(spread["counts"]), spread["total"])


def _weigh(kept: State, name: str, value: float, weight: int) -> None:
    total, weights = kept.get(name, (0.0, 0))
    kept[name] = [total + value * weight, weights + weight]


def _mean(weighed: tuple[float, int]) -> float | None:
    total, weights = weighed
    return total / weights if weights else None
