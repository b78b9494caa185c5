"""Traces: nothing while they are off, and one story across threads and machines while they are on."""

import contextvars
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from fed_compute.errors import ExtraMissing
from fed_compute.protocol import otel, tracing
from fed_compute.protocol.otel import OtelTracer

STRANGER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The example of the W3C recommendation."""
SDK = "opentelemetry.sdk"
"""What the extra installs; FastAPI brings the interfaces by itself."""
TRACE_ID = int(STRANGER.split("-")[1], 16)


@pytest.fixture
def told() -> Iterator[InMemorySpanExporter]:
    """Switch tracing on; what is told lands here."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(OtelTracer(provider, exporter))
    yield exporter
    tracing.use(None)


def names(exporter: InMemorySpanExporter) -> list[str]:
    """Return the names of what was told, in the order in which it ended."""
    return [span.name for span in exporter.get_finished_spans()]


def test_without_the_extra_everything_but_tracing_works_and_imports_nothing_of_it() -> None:
    script = f"""
import sys
sys.modules[{SDK!r}] = None
import fed_compute.server.traffic, fed_compute.coordinator.publisher, fed_compute.client.api
from fed_compute.protocol import tracing
with tracing.told_by("x", wanted=False), tracing.span("x"):
    assert tracing.headers() == {{}}
assert not [name for name in sys.modules if name.startswith({SDK!r} + ".")]
with tracing.told_by("x", wanted=True):
    pass
"""
    command = [sys.executable, "-c", script]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert asked.stderr.splitlines()[-1].startswith(f"fed_compute.errors.{ExtraMissing.__name__}"), asked.stderr
    assert "fed-compute[otel]" in asked.stderr


def test_while_it_is_off_a_step_is_nothing() -> None:
    with tracing.span("x", parent=STRANGER, links=["rubbish"]) as step:
        step.note({"a": 1})
        step.rename("y")
        step.fail("why")
        step.discard()
    assert (tracing.is_on(), tracing.current(), tracing.headers()) == (False, None, {})


def test_a_step_within_a_step_belongs_to_it(told: InMemorySpanExporter) -> None:
    with tracing.span("outer", attributes={"fed_compute.job": "default"}), tracing.span("inner"):
        pass
    inner, outer = told.get_finished_spans()
    assert (inner.name, outer.name) == ("inner", "outer")
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert dict(outer.attributes or {}) == {"fed_compute.job": "default"}


def test_a_trace_goes_on_at_whoever_is_told_its_number(told: InMemorySpanExporter) -> None:
    with tracing.span("here"):
        carried = tracing.headers()[tracing.HEADER]
    assert tracing.current() is None
    with tracing.span("there", kind="server", parent=carried):
        pass
    here, there = told.get_finished_spans()
    assert there.context.trace_id == here.context.trace_id
    assert there.parent is not None
    assert there.parent.span_id == here.context.span_id


@pytest.mark.parametrize("parent", ["", "rubbish", "00-0-0-01", STRANGER[:-1], "é" * 55, STRANGER.replace("4b", "zz")])
def test_what_is_no_trace_is_no_trace(told: InMemorySpanExporter, parent: str) -> None:
    with tracing.span("x", parent=parent, links=[parent, STRANGER]):
        pass
    (span,) = told.get_finished_spans()
    assert span.parent is None
    assert [link.context.trace_id for link in span.links] == [TRACE_ID]


def test_another_trace_is_left_where_it_was(told: InMemorySpanExporter) -> None:
    with tracing.span("mine"):
        mine = tracing.current()
        with tracing.span("theirs", parent=STRANGER):
            assert int((tracing.current() or "").split("-")[1], 16) == TRACE_ID
        assert tracing.current() == mine


def test_a_discarded_step_is_not_told(told: InMemorySpanExporter) -> None:
    with tracing.span("idle") as step:
        step.discard()
    assert names(told) == []


def test_a_step_that_an_error_leaves_is_told_as_failed_without_its_traceback(told: InMemorySpanExporter) -> None:
    """A traceback may name files of the machine; the message is one of ours."""
    with pytest.raises(OSError, match="disk"), tracing.span("x"):
        raise OSError("disk")
    (span,) = told.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.events == ()


def test_a_thread_that_is_given_the_present_goes_on_with_it(told: InMemorySpanExporter) -> None:
    seen: list[str | None] = []
    with tracing.span("x"):
        here = contextvars.copy_context()
        thread = threading.Thread(target=here.run, args=(lambda: seen.append(tracing.current()),))
        thread.start()
        thread.join()
        assert seen == [tracing.current()]


def test_the_end_waits_for_no_collector_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself the exporter would try again for ten seconds, longer than a coordinator may take to stop."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "50")
    monkeypatch.setattr(otel, "LAST_SECONDS", 0.1)
    with tracing.told_by("x", wanted=True):
        assert tracing.is_on()
        with tracing.span("x"):
            pass
    assert not tracing.is_on()  # a pytest that hangs here would be killed after a minute


def test_the_service_is_called_what_its_owner_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ("by-default", "mine"):
        tracer = otel.exporting_tracer("by-default")
        tracer.stop()
        assert tracer._provider.resource.attributes["service.name"] == named
        monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
