"""Whatever the product offers is told in the reference, in words of its own."""

import re

import pytest

from fed_compute.client.config import ClientSettings
from fed_compute.coordinator.settings import CoordinatorSettings
from fed_compute.protocol import messages
from fed_compute.protocol.encodings import encoding_named
from fed_compute.protocol.job import Compression, Encoding
from fed_compute.protocol.retry_window import RETRY_WINDOW
from fed_compute.rounds.events import EVENTS
from fed_compute.server.metric_names import METRICS, MetricName
from fed_compute.simulator.attacks.registry import ATTACKS, attack_settings
from tests.docs.pages import shown
from tools.site.catalogue import error_kinds
from tools.site.commands import commands, help_of, names, parameters
from tools.site.hooks import GENERATED
from tools.site.server import metrics_told, operations
from tools.site.settings import fleet_sections, job_keys, job_sections, settings_of

SETTINGS = {**settings_of(CoordinatorSettings), **settings_of(ClientSettings)}
JOB_KEYS = [(name, key, field) for name, section in job_sections() for key, field in job_keys(section).items()]
FLEET_KEYS = [(name, key, field) for name, section in fleet_sections() for key, field in section.model_fields.items()]
COMMANDS = dict(commands())
OPERATIONS = {f"{method} {path}": operation for method, path, operation in operations()}
NOT_FOR_PROGRAMS = ("/ui/", "/static/")
"""Pages for people: they are no part of the API."""


@pytest.mark.parametrize("variable", SETTINGS)
def test_every_setting_says_what_it_does(variable: str) -> None:
    _, field = SETTINGS[variable]
    assert field.description, f"{variable}: give the field a description"
    assert f"| `{variable}` |" in shown("reference/settings.md")


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, key, _ in JOB_KEYS])
def test_every_key_of_a_job_file_says_what_it_means(section: str, key: str) -> None:
    (field,) = [field for where, name, field in JOB_KEYS if (where, name) == (section, key)]
    assert field.description, f"{section}.{key}: give the field a description"
    part = shown("reference/job-file.md").partition(f"## `[{section}]`" if section else "## Outside of all tables")[2]
    assert f"| `{key}` |" in part.partition("\n## ")[0]


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, key, _ in FLEET_KEYS])
def test_every_key_of_a_fleet_file_says_what_it_means(section: str, key: str) -> None:
    (field,) = [field for where, name, field in FLEET_KEYS if (where, name) == (section, key)]
    assert field.description, f"{section}.{key}: give the field a description"
    page = shown("reference/fleet-file.md")
    is_table = f"\n## `{f'{section}.{key}'.lstrip('.')}`\n" in page
    part = page.partition(f"## `{section}`" if section else "## Outside of all tables")[2].partition("\n## ")[0]
    assert is_table or re.search(rf"^\| `{key}` \|.*\S \|$", part, re.MULTILINE)


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_is_told_with_its_settings(attack: str) -> None:
    (row,) = re.findall(rf"^\| `{attack}` \|.*$", shown("reference/fleet-file.md"), re.MULTILINE)
    assert all(f"`{name}" in row for name in attack_settings(attack))
    assert row.rstrip(" |").endswith(".")


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_argument_and_option_is_explained(words: str) -> None:
    command = COMMANDS[words]
    assert command.help, f"{words}: give the function a docstring"
    part = shown("reference/command-line.md").partition(f"## `{words}`\n")[2].partition("\n## ")[0]
    for parameter in parameters(command):
        assert help_of(parameter), f"{words} {names(parameter)}: give it a help text"
        assert f"| `{names(parameter)}` |" in part


def test_no_help_text_loses_a_word_to_the_terminal() -> None:
    """A word in square brackets is taken for a colour there."""
    texts = {words: command.help or "" for words, command in COMMANDS.items()}
    texts |= {
        f"{words} {names(one)}": help_of(one) for words, command in COMMANDS.items() for one in parameters(command)
    }
    assert {words: text for words, text in texts.items() if re.search(r"(?<!\\)\[[a-z]", text)} == {}


@pytest.mark.parametrize("call", OPERATIONS)
def test_every_call_says_what_it_does(call: str) -> None:
    operation = OPERATIONS[call]
    assert operation.get("summary"), f"{call}: give the route a summary"
    assert operation.get("description"), f"{call}: give the function a docstring"
    assert operation.get("tags"), f"{call}: give the router a tag"
    assert f"### `{call}`" in shown("reference/http-api.md")


@pytest.mark.parametrize("kind", error_kinds(), ids=lambda kind: kind.code)
def test_every_error_code_is_told(kind: type) -> None:
    assert f'<span id="{kind.code}"></span>`{kind.code}`' in shown("reference/error-codes.md")


def test_every_code_that_the_api_names_is_an_error_of_ours() -> None:
    named = set(re.findall(r"`([a-z_]+)`", " ".join(
        answer["description"] for operation in OPERATIONS.values()
        for status, answer in operation["responses"].items() if status >= "400"
    )))  # fmt: skip
    assert len(named) > 30
    assert sorted(named - {kind.code for kind in error_kinds()}) == []


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.name)
def test_every_kind_of_event_is_told(kind: object) -> None:
    assert f"| `{kind.name}` | {kind.meaning} |" in shown("reference/events.md")  # type: ignore[attr-defined]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_says_what_it_counts(metric: MetricName) -> None:
    assert metric.help
    assert f"| `{metric.name}` | {metric.kind} |" in shown("reference/metrics.md")


def test_a_coordinator_tells_no_other_metric() -> None:
    assert len(metrics_told()) > 20
    assert sorted(metrics_told() - {metric.name for metric in METRICS}) == []


def test_the_protocol_page_knows_every_encoding_header_and_media_type() -> None:
    page = shown("reference/protocol.md")
    words = [
        *Encoding.__args__,
        messages.PROTOCOL_HEADER,
        messages.SAFETENSORS,
        messages.SAFETENSORS_ZSTD,
        RETRY_WINDOW,
    ]
    words += [word for word in Compression.__args__ if word != "none"]
    assert [word for word in words if word not in page] == []
    assert all(encoding_named(name, topk_fraction=0.5).name == name for name in Encoding.__args__)


def test_the_python_page_tells_every_public_name() -> None:
    import fed_compute

    page = shown("reference/python-api.md")
    assert [name for name in fed_compute.__all__ if not re.search(rf"(\.|## ){name}\n", page)] == []


def test_every_page_that_is_made_of_the_code_has_its_mark() -> None:
    pages = ["command-line", "error-codes", "events", "http-api", "job-file", "metrics", "settings"]
    texts = [shown(f"reference/{page}.md") for page in pages]
    assert not any("<!-- generated" in text for text in texts)
    pages.append("fleet-file")
    assert len(GENERATED) == len(pages) + 1  # the settings of two processes stand on one page
    assert all(text.count("\n|") > 10 for text in texts)
