"""The metrics as Prometheus and OpenMetrics read them, built anew for each scrape."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from fed_compute.coordinator.metrics import RoundMetrics
from fed_compute.coordinator.queries import Population, population
from fed_compute.coordinator.wiring import Coordinator

PLAIN_TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text"

_ROUND_STATES = ("OPEN", "COLLECTING", "AGGREGATING", "CLOSED", "ABANDONED")


class _Scrape:
    """One scrape's answers, in the form that the library collects."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        return self._families


def exposition(core: Coordinator, *, accept: str) -> tuple[bytes, str]:
    """Return the text and its content type, in the format that `accept` prefers."""
    clients = population(core.store, seen_since=core.clock.now() - core.settings.active_seconds)
    rounds, names = core.metrics.rounds(), {int(job.job_id): job.name for job in core.jobs.all()}
    families = [
        *_clients(clients),
        *_rounds(rounds),
        *_updates(rounds),
        *_newest(rounds, names),
        _events(core.metrics.totals()),
    ]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(families))
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


def _clients(clients: Population) -> Iterator[Metric]:
    yield GaugeMetricFamily("fed_compute_clients_registered", "Clients that registered.", value=clients.registered)
    yield GaugeMetricFamily("fed_compute_clients_active", "Clients heard of lately.", value=clients.active)


def _rounds(rounds: Sequence[RoundMetrics]) -> Iterator[Metric]:
    states = GaugeMetricFamily("fed_compute_rounds", "Rounds in each state.", labels=["state"])
    counted = Counter(round_.state for round_ in rounds)
    for state in _ROUND_STATES:
        states.add_metric([state], counted[state])
    yield states
    tasks = CounterMetricFamily("fed_compute_tasks", "Training tasks by what became of them.", labels=["outcome"])
    for outcome in ("assigned", "expired", "released", "cancelled"):
        tasks.add_metric([outcome], sum(getattr(round_, f"tasks_{outcome}") for round_ in rounds))
    yield tasks
    durations = [
        round_.closed_at - round_.started_at
        for round_ in rounds
        if round_.state == "CLOSED" and round_.closed_at is not None and round_.started_at is not None
    ]
    yield SummaryMetricFamily(
        "fed_compute_round_duration_seconds",
        "From a round's first task to its result.",
        count_value=len(durations),
        sum_value=sum(durations),
    )


def _updates(rounds: Sequence[RoundMetrics]) -> Iterator[Metric]:
    updates = CounterMetricFamily("fed_compute_updates", "Updates by what became of them.", labels=["outcome"])
    accepted = sum(round_.updates_accepted for round_ in rounds)
    updates.add_metric(["accepted"], accepted)
    updates.add_metric(["refused"], sum(round_.updates_refused for round_ in rounds))
    updates.add_metric(["late"], sum(round_.updates_late for round_ in rounds))
    yield updates
    refusals = CounterMetricFamily("fed_compute_update_refusals", "Refused updates by code.", labels=["code"])
    codes: Counter[str] = Counter()
    for round_ in rounds:
        codes.update(round_.refusals)
    for code, count in sorted(codes.items()):
        refusals.add_metric([code], count)
    yield refusals
    yield CounterMetricFamily(
        "fed_compute_update_bytes",
        "Bytes of accepted updates.",
        value=sum(round_.bytes_received for round_ in rounds),
    )
    yield SummaryMetricFamily(
        "fed_compute_update_latency_seconds",
        "From a task's lease to its accepted update.",
        count_value=accepted,
        sum_value=sum(round_.latency_seconds_sum for round_ in rounds),
    )


def _newest(rounds: Sequence[RoundMetrics], names: dict[int, str]) -> Iterator[Metric]:
    """Yield what each job's newest closed round says about its model."""
    version = GaugeMetricFamily("fed_compute_model_version", "Newest model version.", labels=["job"])
    loss = GaugeMetricFamily("fed_compute_train_loss", "Mean training loss of the newest round.", labels=["job"])
    accuracy = GaugeMetricFamily("fed_compute_accuracy_ratio", "Newest measured accuracy, 0 to 1.", labels=["job"])
    for job_id, name in sorted(names.items()):
        closed = [round_ for round_ in rounds if round_.job_id == job_id and round_.result_version is not None]
        version.add_metric([name], closed[-1].result_version or 1 if closed else 1)
        losses = [value for round_ in closed if (value := round_.summary()["train_loss"]) is not None]
        accuracies = [value for round_ in closed if (value := round_.summary()["accuracy"]) is not None]
        if losses:
            loss.add_metric([name], losses[-1])
        if accuracies:
            accuracy.add_metric([name], accuracies[-1])
    yield from (version, loss, accuracy)


def _events(totals: dict[str, int]) -> Metric:
    events = CounterMetricFamily("fed_compute_events", "Events of the journal by kind.", labels=["kind"])
    for kind, count in totals.items():
        if not kind.startswith("refused:"):
            events.add_metric([kind], count)
    return events
