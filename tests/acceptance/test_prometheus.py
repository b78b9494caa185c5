"""The metrics as monitoring reads them: over HTTP, from a server that has worked."""

import re
import shutil
import subprocess
from collections.abc import Iterable

import httpx2
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from fed_compute.server.metric_names import BY_NAME, METRICS, Kind
from tests.acceptance.conftest import Serve, Served, problem, update_body

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PROMTOOL = shutil.which("promtool")


@pytest.fixture(scope="module")
def worked(serve_job: Serve) -> Served:
    """A server whose clients sent what was good, what was bad and what nobody asked for."""
    server = serve_job()
    members = [server.join(name) for name in ("anna", "bob")]
    tasks = [member.task() for member in members]
    problem(members[0].put(tasks[0], b"x" * 400), 422, "update_malformed")
    for member, task in zip(members, tasks, strict=True):
        assert member.put(task, update_body(task)).status_code == 201
    assert server.http.get("/nowhere/anna").status_code == 404
    assert members[0].get_task(wait=20, evaluate=False).json()["round_id"] == 2
    server.coordinator.worker.stop()  # what is told from here on is told of the same records
    while server.coordinator.worker.run_once():
        pass
    return server


def scrape(server: Served, accept: str = "") -> httpx2.Response:
    """Return the metrics."""
    answer = server.http.get("/metrics/prometheus", headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer


def values(families: Iterable[Metric]) -> dict[str, float]:
    """Return every value under its name and labels as text."""
    return {
        f"{sample.name}{{{','.join(f'{key}={value}' for key, value in sorted(sample.labels.items()))}}}": sample.value
        for family in families
        for sample in family.samples
    }


def test_monitoring_is_answered_as_text_where_it_asks_for_text_and_where_it_asks_for_nothing(worked: Served) -> None:
    plain, named = scrape(worked), worked.http.get("/metrics", headers={"Accept": "text/plain;version=0.0.4"})
    for answer in (plain, named):
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "# TYPE fed_compute_updates_total counter" in answer.text
    assert worked.http.get("/metrics").headers["content-type"] == "application/json"


def test_openmetrics_is_answered_where_it_is_asked_for(worked: Served) -> None:
    for path in ("/metrics", "/metrics/prometheus"):
        answer = worked.http.get(path, headers={"Accept": OPENMETRICS})
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.text.endswith("# EOF\n")


def test_both_formats_tell_the_same_values(worked: Served) -> None:
    text = values(read_text(scrape(worked).text))
    open_ = values(read_openmetrics(scrape(worked, OPENMETRICS).text))
    moving = re.compile(r"fed_compute_(http|database|duty)|process_|fed_compute_disk_free")
    stays = {name: value for name, value in text.items() if not moving.match(name)}
    assert len(stays) > 100
    assert {name: open_[name] for name in stays} == stays
    assert text.keys() - open_.keys() == set()


def test_every_family_that_is_told_is_documented_and_every_documented_one_is_told(worked: Served) -> None:
    told = {}
    for family in read_text(scrape(worked).text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        told[name] = (family.type, family.documentation)
    assert told == {metric.name: (metric.kind, metric.help) for metric in METRICS}


def test_values_carry_the_documented_labels_and_none_is_a_clients_name(worked: Served) -> None:
    for family in read_text(scrape(worked).text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(BY_NAME[name].labels), sample
            assert sample.name in BY_NAME[name].series(), sample
            assert not {"anna", "bob"} & set(sample.labels.values()), sample


def test_names_follow_prometheus() -> None:
    """Counters end in `_total`, and what has a unit says so: `promtool` checks more, where it is installed."""
    for metric in METRICS:
        stem = metric.name.removesuffix("_total")
        assert (stem != metric.name) == (metric.kind is Kind.COUNTER), metric.name
        assert not metric.unit or metric.unit in stem.split("_")[-2:], metric.name
        assert metric.help.endswith(".")
    assert len(BY_NAME) == len(METRICS)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed; it comes with Prometheus")
def test_promtool_finds_nothing_to_say(worked: Served) -> None:
    assert PROMTOOL is not None
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=scrape(worked).text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_what_happened_is_what_is_told(worked: Served) -> None:
    told = values(read_text(scrape(worked).text))
    for name, value in {
        "fed_compute_updates_total{job=default,outcome=accepted}": 2,
        "fed_compute_updates_total{job=default,outcome=refused}": 1,
        "fed_compute_updates_total{job=default,outcome=late}": 0,
        "fed_compute_update_refusals_total{code=update_malformed}": 1,
        "fed_compute_rounds_total{job=default,outcome=closed}": 1,
        "fed_compute_round_phase{job=default,phase=COLLECTING}": 1,
        "fed_compute_round_phase{job=default,phase=OPEN}": 0,
        "fed_compute_round_duration_seconds_count{job=default}": 1,
        "fed_compute_round_duration_seconds_bucket{job=default,le=+Inf}": 1,
        "fed_compute_aggregation_duration_seconds_count{job=default}": 1,
        "fed_compute_update_latency_seconds_count{job=default}": 2,
        "fed_compute_update_staleness_versions_bucket{job=default,le=0.0}": 2,
        "fed_compute_tasks_total{job=default,kind=train,outcome=assigned}": 3,
        "fed_compute_leases_live{job=default,kind=train}": 1,
        "fed_compute_leases_overdue{job=default,kind=train}": 0,
        "fed_compute_update_samples_total{job=default}": 20,
        "fed_compute_train_loss{job=default}": 1,
        "fed_compute_model_version{job=default}": 2,
        "fed_compute_job_progress_ratio{job=default}": 0.2,
        "fed_compute_job_state{job=default,state=running}": 1,
        "fed_compute_clients{state=active}": 2,
        "fed_compute_clients{state=banned}": 0,
        "fed_compute_journal_lag_entries{reader=totals}": 0,
        "fed_compute_http_requests_total{method=PUT,route=/tasks/{task_id}/update,status=201}": 2,
        "fed_compute_http_requests_total{method=PUT,route=/tasks/{task_id}/update,status=422}": 1,
        "fed_compute_http_requests_total{method=GET,route=(none),status=404}": 1,
        "fed_compute_http_problems_total{code=update_malformed}": 1,
        "fed_compute_http_problems_total{code=not_found}": 1,
        "fed_compute_duty_failing{duty=rounds}": 0,
        "fed_compute_event_streams_open{}": 0,
        "fed_compute_long_polls_open{}": 0,
    }.items():
        assert told[name] == value, name
    with worked.coordinator.store.snapshot() as records:
        sizes = [update.size_bytes for update in records.updates.all()]
    assert told["fed_compute_update_received_bytes_total{job=default}"] == sum(sizes)
    assert told["fed_compute_http_request_bytes_total{route=/tasks/{task_id}/update}"] == sum(sizes) + 400
    assert 0 < told["fed_compute_disk_free_bytes{}"] <= told["fed_compute_disk_size_bytes{}"]
