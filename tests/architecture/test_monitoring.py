"""What monitoring is given to read agrees with what the product tells: dashboard, alarms, scrape and guide."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fed_compute.server.metric_names import METRICS
from tests.architecture.source import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
GUIDE = REPOSITORY / "docs" / "how-to" / "monitor.md"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
SCRAPE = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
TRIALS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "fed-compute.json").read_text(encoding="utf-8"))

SERIES = {series: metric for metric in METRICS for series in metric.series()}
OF_PROMETHEUS = {"up"}
LABELS_OF_PROMETHEUS = {"job", "instance", "le"}
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed; it comes with Prometheus")

_NAME = re.compile(r"\b(?:fed_compute|process)_[a-z_]+\b|\bup\b")
_SELECTED = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPED = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


def alerts() -> dict[str, str]:
    """Return every alarm's expression."""
    return {rule["alert"]: rule["expr"] for group in RULES["groups"] for rule in group["rules"]}


def panels() -> Iterator[dict[str, Any]]:
    """Yield every panel of the dashboard but the headings."""
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def asked() -> dict[str, str]:
    """Return every expression of the dashboard, by panel and letter."""
    return {
        f"{panel['id']} {panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }


EXPRESSIONS = {**alerts(), **asked()}


def strangers(expression: str) -> list[str]:
    """Return the metrics and labels that an expression names and nobody tells."""
    names = _NAME.findall(expression)
    known = LABELS_OF_PROMETHEUS.union(*(SERIES[name].labels for name in names if name in SERIES))
    labels = _SELECTED.findall(expression)
    labels += [label.strip() for group in _GROUPED.findall(expression) for label in group.split(",") if label.strip()]
    wrong = [name for name in names if name not in SERIES and name not in OF_PROMETHEUS]
    return wrong + [label for label in labels if label not in known]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_expression_asks_for_what_is_told(name: str) -> None:
    assert _NAME.search(EXPRESSIONS[name]), "asks for nothing"
    assert strangers(EXPRESSIONS[name]) == []


@needs_promtool
def test_prometheus_reads_the_alarms_and_the_scrape() -> None:
    checked = promtool("check", "config", "--lint=all", "--lint-fatal", str(DEPLOY / "prometheus" / "prometheus.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_prometheus_reads_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    filled = {
        name: expression.replace("$__rate_interval", "5m").replace("$job_name", ".*").replace("$instance", ".*")
        for name, expression in asked().items()
    }
    assert [name for name, expression in filled.items() if "$" in expression] == []
    rules = [{"record": f"panel:{place}", "expr": expression} for place, expression in enumerate(filled.values())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = promtool("check", "rules", str(tmp_path / "rules.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_every_alarm_goes_off_when_it_should_and_not_before() -> None:
    checked = promtool("test", "rules", str(DEPLOY / "prometheus" / "alerts.test.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alarm_is_tried_in_good_health_and_in_its_case() -> None:
    trials = [trial for test in TRIALS for trial in test["alert_rule_test"]]
    assert {trial["alertname"] for trial in TRIALS[0]["alert_rule_test"]} == set(alerts())
    assert [trial for trial in TRIALS[0]["alert_rule_test"] if trial.get("exp_alerts")] == []
    assert {trial["alertname"] for trial in trials if trial.get("exp_alerts")} == set(alerts())


def test_every_alarm_says_how_bad_it_is_and_what_it_means() -> None:
    for group in RULES["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
            assert rule["annotations"]["summary"], rule["alert"]


def test_the_guide_says_what_to_do_about_every_alarm() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert [name for name in alerts() if f"`{name}`" not in text] == []


def test_the_guide_names_no_metric_that_is_not_told() -> None:
    named = set(re.findall(r"`((?:fed_compute|process)_[a-z_]+)`", GUIDE.read_text(encoding="utf-8")))
    assert named
    assert sorted(named - set(SERIES) - {metric.name for metric in METRICS}) == []


def test_prometheus_asks_where_the_coordinator_answers() -> None:
    (job,) = SCRAPE["scrape_configs"]
    assert job["metrics_path"] == "/metrics/prometheus"
    assert job["job_name"] == "fed-compute"  # the alarm for a coordinator that is down names it
    assert job["static_configs"] == [{"targets": ["coordinator:8000"]}]
    assert SCRAPE["rule_files"] == ["alerts.yml"]


def test_the_dashboard_is_one_that_grafana_can_take_in() -> None:
    """Panels of their own numbers within the grid, one data source that the reader chooses, variables that are used."""
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names[0] == "datasource"
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    text = json.dumps(DASHBOARD)
    assert [name for name in names if f"${name}" not in text and f"${{{name}}}" not in text] == []
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == sorted({t["refId"] for t in panel["targets"]})
    assert DASHBOARD["uid"]
    assert DASHBOARD["schemaVersion"] >= 36


def test_the_dashboard_shows_every_metric_but_those_of_a_single_number() -> None:
    """A metric that no panel and no alarm asks for is one that nobody will ever look at."""
    named = {name for expression in EXPRESSIONS.values() for name in _NAME.findall(expression)}
    seen = {SERIES[name].name for name in named if name in SERIES}
    unseen = {metric.name for metric in METRICS} - seen
    assert unseen == {
        "fed_compute_job_rounds_planned",  # in the progress
        "fed_compute_model_parameters",  # never changes
        "fed_compute_round_opened_timestamp_seconds",
        "fed_compute_round_phase",
        "fed_compute_events_total",  # every kind has a metric of its own
        "fed_compute_duty_runs_total",
        "fed_compute_blob_bytes_total",
        "process_virtual_memory_bytes",
        "process_start_time_seconds",
    }


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("fed_compute_updates", ["fed_compute_updates"]),
        ('rate(fed_compute_updates_total{client="anna"}[5m])', ["client"]),
        ("sum by (code, le) (fed_compute_updates_total)", ["code"]),
        ("fed_compute_round_duration_seconds", ["fed_compute_round_duration_seconds"]),
        ('max by (job_name) (fed_compute_model_version{instance=~"a"}) > up', []),
    ],
)
def test_a_stranger_in_an_expression_is_noticed(expression: str, wrong: list[str]) -> None:
    assert strangers(expression) == wrong
