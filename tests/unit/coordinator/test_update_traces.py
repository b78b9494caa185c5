"""Which trace an update belongs to is found again by whoever folds it, in this process or the next."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fed_compute.coordinator.update_traces import UpdateTraces
from fed_compute.ids import RoundId
from fed_compute.protocol import tracing
from fed_compute.protocol.otel import OtelTracer
from tests.unit.coordinator.stand import Stand


@pytest.fixture
def told() -> Iterator[InMemorySpanExporter]:
    """Switch tracing on; what is told lands here."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(OtelTracer(provider, exporter))
    yield exporter
    tracing.use(None)


def traces_of(exporter: InMemorySpanExporter, name: str) -> list[int]:
    """Return the traces of all steps of a name."""
    return [span.context.trace_id for span in exporter.get_finished_spans() if span.name == name]


def test_a_fold_after_a_restart_goes_on_with_the_trace_of_the_update(
    durable: Stand, told: InMemorySpanExporter
) -> None:
    durable.join("anna", "bob")
    durable.report("anna")
    durable.restart()
    durable.report("bob")
    durable.work()
    assert sorted(traces_of(told, "fold update")) == sorted(traces_of(told, "commit update"))
    (aggregated,) = [span for span in told.get_finished_spans() if span.name == "aggregate round"]
    assert {link.context.trace_id for link in aggregated.links} == set(traces_of(told, "commit update"))


def test_an_update_without_a_trace_is_folded_all_the_same(stand: Stand, told: InMemorySpanExporter) -> None:
    """It was accepted while tracing was off."""
    stand.join("anna", "bob")
    tracing.use(None)
    updates = [stand.report(name) for name in ("anna", "bob")]
    assert UpdateTraces(stand.core.store).of_round(updates[0].round_id) == {}
    tracing.use(OtelTracer(TracerProvider(shutdown_on_exit=False), told))
    assert UpdateTraces(stand.core.store).of_round(updates[0].round_id) == {}
    stand.work()
    assert len(stand.versions()) == 2


def test_each_line_of_the_journal_is_read_once_and_a_round_that_is_over_is_forgotten(
    stand: Stand, told: InMemorySpanExporter
) -> None:
    stand.join("anna")
    traces = UpdateTraces(stand.core.store)
    first = stand.report("anna")
    assert traces.of_round(first.round_id).keys() == {first.update_id}
    with stand.core.store.snapshot() as records:
        assert records.journal.of_round(RoundId(1), after=records.journal.last_seq()) == []
    traces.keep_only([RoundId(1)])
    assert traces.of_round(first.round_id).keys() == {first.update_id}
    traces.keep_only([])
    assert traces._known == {}
