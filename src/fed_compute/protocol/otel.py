"""Traces by OpenTelemetry. The only module that knows it; imported when tracing is switched on, and not before."""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, get_current_span, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fed_compute.protocol.tracing import HEADER, Kind, Value

LAST_SECONDS = 2.0
"""How long the end of a process waits for a collector that does not answer."""

_KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT, "server": SpanKind.SERVER}
_WIRE = TraceContextTextMapPropagator()


def exporting_tracer(service: str) -> "OtelTracer":
    """Return a tracer that sends spans in batches over OTLP/HTTP, set up by the standard variables `OTEL_…`."""
    told = {SERVICE_VERSION: version("fed-compute")}
    if "OTEL_SERVICE_NAME" not in os.environ:
        told[SERVICE_NAME] = service
    provider = TracerProvider(resource=Resource.create(told), shutdown_on_exit=False)
    exporter = OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtelTracer(provider, exporter)


class OtelTracer:
    """Tells of steps to one provider of OpenTelemetry, whose settings decide what is sampled and where it goes."""

    def __init__(self, provider: TracerProvider, exporter: SpanExporter) -> None:
        self._provider = provider
        self._exporter = exporter
        self._tracer = provider.get_tracer("fed_compute", version("fed-compute"))

    @contextmanager
    def span(
        self, name: str, *, kind: Kind, parent: str | None, links: Iterable[str], attributes: Mapping[str, Value]
    ) -> Iterator["OtelSpan"]:
        """Tell of a step that lasts as long as the block."""
        linked = [get_current_span(_context_of(link)).get_span_context() for link in links]
        span = self._tracer.start_span(
            name,
            context=None if parent is None else _context_of(parent),
            kind=_KINDS[kind],
            attributes=dict(attributes),
            links=[Link(context) for context in linked if context.is_valid],
        )
        told = OtelSpan(span)
        try:
            with use_span(span, record_exception=False):
                yield told
        finally:
            told.end()

    def current(self) -> str | None:
        """Return the present step of this thread as a `traceparent`."""
        carrier: dict[str, str] = {}
        _WIRE.inject(carrier)
        return carrier.get(HEADER)

    def stop(self) -> None:
        """Send what is left to send. An exporter that is shut down gives up what it was trying again and again."""
        impatience = threading.Timer(LAST_SECONDS, self._exporter.shutdown)
        impatience.start()
        self._provider.shutdown()
        impatience.cancel()


class OtelSpan:
    """One step, while it lasts."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._is_told = True

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Add to what is told of the step."""
        self._span.set_attributes(dict(attributes))

    def rename(self, name: str) -> None:
        """Give the step another name."""
        self._span.update_name(name)

    def fail(self, why: str) -> None:
        """Tell that the step failed."""
        self._span.set_status(Status(StatusCode.ERROR, why))

    def discard(self) -> None:
        """Do not tell of the step after all: a span that never ends is never sent."""
        self._is_told = False

    def end(self) -> None:
        """Tell of the step, unless it was discarded."""
        if self._is_told:
            self._span.end()


def _context_of(traceparent: str) -> Context:
    """Return the context that a `traceparent` names, an empty one if it names none."""
    return _WIRE.extract({HEADER: traceparent}, context=Context())
