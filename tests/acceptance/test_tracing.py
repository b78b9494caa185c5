"""One trace follows a task from the client that fetches it to the version that it becomes part of."""

import http.server
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fed_compute.protocol import tracing
from fed_compute.protocol.otel import OtelTracer
from tests.acceptance.conftest import Serve, Served, update_body
from tests.fault.client_process import client_process
from tests.fault.server import Server

TRACES = tuple(f"{number:032x}" for number in (0xA1, 0xB2))
JOB = """
name = "default"
[rounds]
total = 1
target_updates = 1
min_updates = 1
[evaluation]
every_rounds = 0
"""


@pytest.fixture
def told() -> Iterator[InMemorySpanExporter]:
    """Switch tracing on in this process; what is told lands here."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(OtelTracer(provider, exporter))
    yield exporter
    tracing.use(None)


def of_trace(spans: Iterable[ReadableSpan], trace: str) -> list[str]:
    """Return the names of a trace's steps."""
    return sorted(span.name for span in spans if f"{span.context.trace_id:032x}" == trace)


def close_round(server: Served) -> None:
    """Let two clients, each with a trace of its own, close a round."""
    members = [server.join(name) for name in ("anna", "bob")]
    tasks = [member.task() for member in members]
    for member, task, trace in zip(members, tasks, TRACES, strict=True):
        sent = member.put(task, update_body(task), traceparent=f"00-{trace}-00f067aa0ba902b7-01")
        assert sent.status_code == 201
    assert members[0].get_task(wait=20, evaluate=False).json()["round_id"] == 2


def test_an_update_is_followed_to_its_fold_and_the_version_names_every_update(
    serve_job: Serve, told: InMemorySpanExporter
) -> None:
    server = serve_job()
    close_round(server)
    server.stop()
    spans = told.get_finished_spans()
    for trace in TRACES:
        steps = ["PUT /tasks/{task_id}/update", "commit update", "fold update", "validate update"]
        assert of_trace(spans, trace) == steps
    (aggregated,) = [span for span in spans if span.name == "aggregate round"]
    assert sorted(f"{link.context.trace_id:032x}" for link in aggregated.links) == sorted(TRACES)
    assert aggregated.attributes is not None
    assert aggregated.attributes["fed_compute.round_id"] == 1
    put = next(span for span in spans if span.name.startswith("PUT"))
    assert put.attributes is not None
    assert put.attributes["http.response.status_code"] == 201


def test_what_monitoring_asks_for_is_no_trace_and_a_trace_tells_no_name_and_no_key(
    serve_job: Serve, told: InMemorySpanExporter
) -> None:
    server = serve_job()
    anna = server.join("anna")
    for path in ("/healthz", "/readyz", "/metrics", "/metrics/prometheus"):
        server.http.get(path)
    server.http.get("/task/anna", params={"api_key": anna.key})
    server.stop()  # a step is told when it has ended, which is after its answer
    spans = told.get_finished_spans()
    assert {span.name for span in spans} == {"POST /client/register", "GET /task/{client_id}"}
    everything = " ".join(span.to_json() for span in spans)
    assert "anna" not in everything
    assert anna.key not in everything


def test_the_number_of_a_trace_is_not_told_to_those_who_follow_the_journal(
    serve_job: Serve, told: InMemorySpanExporter
) -> None:
    server = serve_job()
    close_round(server)
    with server.coordinator.store.snapshot() as records:
        assert any(TRACES[0] in entry.payload for entry in records.journal.after(0))
    with server.http.stream("GET", "/events", params={"after": 0}) as answer:
        seen = ""
        for line in answer.iter_lines():
            seen += line
            if "version_published" in line and 'round_id": 1' in seen:
                break
    assert "update_accepted" in seen
    assert TRACES[0] not in seen


class Collector(http.server.ThreadingHTTPServer):
    """A collector of OpenTelemetry, as small as one can be."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.spans: list[tuple[str, str, str]] = []
        """Service, name and trace of each span."""
        self.news = threading.Condition()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def trace_of(self, name: str) -> str:
        """Return the trace of the first span of a name; wait for it."""
        with self.news:
            assert self.news.wait_for(lambda: any(name == span[1] for span in self.spans), timeout=40), self.spans
            return next(span[2] for span in self.spans if span[1] == name)


class _Taker(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.news:
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                told = {pair.key: pair.value.string_value for pair in group.resource.attributes}
                for scope in group.scope_spans:
                    for span in scope.spans:
                        self.server.spans.append((told["service.name"], span.name, span.trace_id.hex()))
            self.server.news.notify_all()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a free port."""
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


def test_two_processes_tell_one_story(tmp_path: Path, collector: Collector) -> None:
    """A real client and a real coordinator, each with its own exporter, as two owners would have them."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    server = Server(tmp_path, job=JOB, environment={**environment, "FED_COMPUTE_TRACING": "true"})
    try:
        server.start()
        with client_process(server, tmp_path, "anna", "1/5", CLIENT_TRACING="true", **environment):
            trace = collector.trace_of("task")
            collector.trace_of("fold update")
    finally:
        server.close()
    assert collector.trace_of("fold update") == trace
    steps = {(service, name) for service, name, of in collector.spans if of == trace}
    client = {"fetch task", "task", "fetch model", "train", "upload"}
    assert {name for service, name in steps if service == "fed-compute-client"} == client
    assert {name for service, name in steps if service == "fed-compute-coordinator"} >= {
        "GET /task/{client_id}",
        "GET /model/{version}",
        "PUT /tasks/{task_id}/update",
        "validate update",
        "commit update",
        "fold update",
    }
