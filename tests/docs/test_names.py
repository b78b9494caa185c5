"""Names in the documents are names of the product: variables, calls, error codes."""

import re

import pytest

from fed_compute.cli.admin_api import KEY_VARIABLE
from fed_compute.client import config as client
from fed_compute.client.config import ClientSettings
from fed_compute.coordinator import settings as coordinator
from fed_compute.coordinator.settings import CoordinatorSettings
from fed_compute.errors import SettingInvalid
from tests.architecture.test_containers import environment_names
from tests.docs.pages import documents, text_of
from tools.site.catalogue import error_kinds
from tools.site.links import REPOSITORY
from tools.site.server import operations

VARIABLE = re.compile(r"\b(?:FED_COMPUTE|CLIENT|ASYNC|INCENTIVE)_[A-Z][A-Z_]*[A-Z]\b")
GIVEN = re.compile(rf"({VARIABLE.pattern})=\"?([^\s`\"…$<]+)(?=[\s`\"])")
CALL = re.compile(r"`(GET|PUT|POST|PATCH|DELETE|HEAD) (/[^`\s?]*)")
CURL = re.compile(
    r"curl (?:-N |-X (?P<method>[A-Z]+) )?\"?(?:https?://)?(?:localhost:8000|train\.example\.org)(?P<path>/[^\s?`\"]*)?"
)
PROBLEM = re.compile(r"`(\d{3}) ([a-z]+_[a-z_]+)`")
PAGES = ("/docs", "/redoc", "/openapi.json", "/ui/")
"""For people, or about the API: these are in no document of the API."""
EVERYWHERE = sorted({path.relative_to(REPOSITORY).as_posix() for path in documents()} - {"CHANGELOG.md"})


def known_paths() -> list[tuple[str, re.Pattern[str]]]:
    """Return each call: its method, and what its path looks like once names stand for the braces."""
    return [(method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "/?")) for method, path, _ in operations()]


def is_call(method: str, path: str) -> bool:
    """Say whether the API has a call. A path may break off with an ellipsis."""
    if path.startswith(PAGES):
        return True
    if path.endswith("…"):
        return any(known.startswith(path.rstrip("…")) for _, known, _ in operations())
    return any(method == known and pattern.fullmatch(path) for known, pattern in known_paths())


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_variable_exists(name: str) -> None:
    known = environment_names(CoordinatorSettings) | environment_names(ClientSettings) | {KEY_VARIABLE}
    assert sorted(set(VARIABLE.findall(text_of(REPOSITORY / name))) - known) == []


def test_every_value_that_a_document_gives_a_setting_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {pair for name in EVERYWHERE for pair in GIVEN.findall(text_of(REPOSITORY / name))}
    assert len(told) >= 10
    refused = {}
    for variable, value in sorted(told):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            load = client.load_settings if variable in environment_names(ClientSettings) else coordinator.load_settings
            try:
                load()
            except SettingInvalid as error:
                refused[f"{variable}={value}"] = error.message
    assert refused == {}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_call_exists(name: str) -> None:
    text = text_of(REPOSITORY / name)
    told = [*CALL.findall(text), *((m["method"] or "GET", m["path"] or "/") for m in CURL.finditer(text))]
    assert [f"{method} {path}" for method, path in told if not is_call(method, path)] == []


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_refusal_has_the_status_of_its_code(name: str) -> None:
    known = {kind.code: kind.status for kind in error_kinds()}
    told = PROBLEM.findall(text_of(REPOSITORY / name))
    assert [f"{status} {code}" for status, code in told if known.get(code) != int(status)] == []


def test_what_does_not_exist_is_noticed() -> None:
    assert is_call("GET", "/status/1")
    assert is_call("PUT", "/tasks/…")
    assert not is_call("POST", "/status/1")
    assert not is_call("GET", "/statuses/1")
    assert CURL.findall("curl -N localhost:8000/events")
    assert VARIABLE.findall("set CLIENT_HOURS=1 and `FED_COMPUTE_` too") == ["CLIENT_HOURS"]
    assert sum(len(CALL.findall(text_of(path))) for path in documents()) >= 20


def test_the_glossary_tells_each_word_once_and_in_order() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text_of(REPOSITORY / "docs/reference/glossary.md"), re.MULTILINE)[
        2:
    ]
    words = [word.lower() for word, _ in rows]
    assert len(words) >= 50
    assert words == sorted(set(words))
    assert [word for word, meaning in rows if not meaning.rstrip().endswith((".", ")"))] == []
