"""The metrics as monitoring reads them: over HTTP, from a server that has worked."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from fed_compute.server.metric_names import BY_NAME, METRICS, Kind
from tests.acceptance.conftest import TLS, Serve, Served, problem, update_body
from tests.architecture.source import REPOSITORY
from tests.fault.server import free_port

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
DEPLOY = REPOSITORY / "deploy" / "prometheus"
PROMETHEUS = shutil.which("prometheus")
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
        "fed_compute_updates_total{job_name=default,outcome=accepted}": 2,
        "fed_compute_updates_total{job_name=default,outcome=refused}": 1,
        "fed_compute_updates_total{job_name=default,outcome=late}": 0,
        "fed_compute_update_refusals_total{code=update_malformed}": 1,
        "fed_compute_rounds_total{job_name=default,outcome=closed}": 1,
        "fed_compute_round_phase{job_name=default,phase=COLLECTING}": 1,
        "fed_compute_round_phase{job_name=default,phase=OPEN}": 0,
        "fed_compute_round_duration_seconds_count{job_name=default}": 1,
        "fed_compute_round_duration_seconds_bucket{job_name=default,le=+Inf}": 1,
        "fed_compute_aggregation_duration_seconds_count{job_name=default}": 1,
        "fed_compute_update_latency_seconds_count{job_name=default}": 2,
        "fed_compute_update_staleness_versions_bucket{job_name=default,le=0.0}": 2,
        "fed_compute_tasks_total{job_name=default,kind=train,outcome=assigned}": 3,
        "fed_compute_leases_live{job_name=default,kind=train}": 1,
        "fed_compute_leases_overdue{job_name=default,kind=train}": 0,
        "fed_compute_update_samples_total{job_name=default}": 20,
        "fed_compute_train_loss{job_name=default}": 1,
        "fed_compute_model_version{job_name=default}": 2,
        "fed_compute_job_progress_ratio{job_name=default}": 0.2,
        "fed_compute_job_state{job_name=default,state=running}": 1,
        "fed_compute_clients{state=active}": 2,
        "fed_compute_clients{state=banned}": 0,
        "fed_compute_journal_lag_entries{reader=metrics}": 0,
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
    assert told["fed_compute_update_received_bytes_total{job_name=default}"] == sum(sizes)
    assert told["fed_compute_http_request_bytes_total{route=/tasks/{task_id}/update}"] == sum(sizes) + 400
    assert 0 < told["fed_compute_disk_free_bytes{}"] <= told["fed_compute_disk_size_bytes{}"]


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[httpx2.Client]:
    """Run a real Prometheus with our scrape and our alarms, but for the target and the haste."""
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(DEPLOY / "alerts.yml", folder)
    port = free_port()
    command = [
        str(PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, verify=TLS) as http:
            yield http
    finally:
        process.kill()
        process.wait()


def ask(http: httpx2.Client, path: str, **query: str) -> Any:
    """Ask Prometheus until it has an answer."""
    until = time.monotonic() + 40
    while time.monotonic() < until:
        with suppress(httpx2.TransportError):
            answer = http.get(path, params=query)
            if answer.is_success and (found := answer.json()["data"]).get("result", True):
                return found
        time.sleep(0.05)
    raise AssertionError(f"Prometheus has no answer to {path} {query}")


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed; Debian's package is called so")
def test_a_real_prometheus_scrapes_a_real_coordinator(worked: Served, tmp_path: Path) -> None:
    """With the scrape and the alarms that we deliver: what it then says of the job is what happened."""
    with prometheus(tmp_path, worked.url.removeprefix("http://")) as http:
        for query, value in {
            'up{job="fed-compute"}': "1",
            'max by (job_name) (fed_compute_updates_total{outcome="accepted"})': "2",
            'fed_compute_model_version{job="fed-compute", job_name="default"}': "2",
        }.items():
            (found,) = ask(http, "/api/v1/query", query=query)["result"]
            assert found["value"][1] == value, query
        groups = ask(http, "/api/v1/rules")["groups"]
        assert sum(len(group["rules"]) for group in groups) == 16
        (target,) = ask(http, "/api/v1/targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
