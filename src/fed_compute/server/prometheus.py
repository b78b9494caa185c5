"""The metrics as Prometheus and OpenMetrics read them, built anew for each scrape."""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from fed_compute.coordinator.readings import read
from fed_compute.server.dependencies import ServerState
from fed_compute.server.process_metrics import of_process
from fed_compute.server.record_metrics import of_records

PLAIN_TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text"


class _Scrape:
    """One scrape's answers, in the form that the library collects."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        return self._families


def exposition(state: ServerState, *, accept: str) -> tuple[bytes, str]:
    """Return the text and its content type, in the format that `accept` prefers: Prometheus' own if it names none.

    What the journal's readers have not read yet is not in it; `fed_compute_journal_lag_entries` says how much that is.
    Costs what `readings.read` costs: nothing that grows with the rounds.
    """
    core = state.coordinator
    now = core.clock.now()
    readings = read(core.store, now=now, seen_since=now - core.settings.active_seconds)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape([*of_records(readings), *of_process(state)]))
    encode, kind = choose_encoder(accept)
    return encode(registry), kind
