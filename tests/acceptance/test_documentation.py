"""The OpenAPI document explains every call: what it does, what is sent and answered, and each way it may be refused."""

import copy
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import open_coordinator
from fed_compute.server.app import create_app
from fed_compute.server.problems import PROBLEM_JSON
from tests.leaks import holds_secret

UNREADABLE = ("application/vnd.", "application/partial-upload", "text/html")
"""Media types of which an example helps nobody: bytes, and pages."""

EVERYWHERE = {"422", "426", "429", "500"}
"""What every call may answer: a wrong request, another protocol, too many requests, a fault of ours."""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    coordinator = open_coordinator(load_settings(data_dir=tmp_path_factory.mktemp("coordinator"), port=0))
    try:
        return create_app(coordinator).openapi()
    finally:
        coordinator.close()


def shortcomings(document: dict[str, Any]) -> list[str]:
    """Return what the document leaves unsaid or says wrongly, call by call."""
    calls = [
        (f"{method.upper()} {path}", call) for path, of in document["paths"].items() for method, call in of.items()
    ]
    return [f"{name}: {lack}" for name, call in calls for lack in _lacks(document, call)]


def _lacks(document: dict[str, Any], call: dict[str, Any]) -> Iterator[str]:
    yield from (f"no {word}" for word in ("summary", "description") if not call.get(word))
    for parameter in call.get("parameters", ()):
        if not parameter.get("description"):
            yield f"parameter {parameter['name']} is not described"
    yield from _bad_examples(document, "what is sent", call.get("requestBody", {}).get("content", {}))
    for status, response in call["responses"].items():
        if int(status) < HTTPStatus.BAD_REQUEST:
            yield from _bad_examples(document, status, response.get("content", {}))
        else:
            yield from _bad_problems(document, status, response.get("content", {}))
    yield from (f"{status} is not documented" for status in sorted(EVERYWHERE - call["responses"].keys()))


def _bad_examples(document: dict[str, Any], where: str, content: dict[str, Any]) -> Iterator[str]:
    for media, said in content.items():
        if media.startswith(UNREADABLE):
            continue
        if "example" not in said:
            yield f"{where} has no example as {media}; see `make examples`"
        elif "json" in media:
            yield from _misfits(document, f"{where}: the example", said.get("schema", {}), said["example"])
        elif not isinstance(said["example"], str) or not said["example"].strip():
            yield f"{where}: the example is no text"


def _bad_problems(document: dict[str, Any], status: str, content: dict[str, Any]) -> Iterator[str]:
    if PROBLEM_JSON not in content:
        yield f"{status} is no problem document"
        return
    said = content[PROBLEM_JSON]
    if not said.get("examples"):
        yield f"{status} names no code"
    for code, reference in said.get("examples", {}).items():
        problem = document["components"]["examples"][reference["$ref"].rpartition("/")[2]]["value"]
        if (problem["code"], f"{problem['status']}") != (code, status):
            yield f"{status}: the example of {code} is another problem"
        yield from _misfits(document, f"{status}: the example of {code}", said["schema"], problem)


def _misfits(document: dict[str, Any], what: str, schema: dict[str, Any], value: Any) -> Iterator[str]:
    validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
    yield from (f"{what} does not fit its schema: {error.message}" for error in validator.iter_errors(value))


def test_every_call_is_explained_with_examples_that_fit(document: dict[str, Any]) -> None:
    assert len(document["paths"]) > 40
    assert shortcomings(document) == []


def test_no_example_holds_a_key(document: dict[str, Any]) -> None:
    assert not holds_secret(repr(document).encode())
    assert not holds_secret((Path(__file__).parents[2] / "src/fed_compute/server/examples.json").read_bytes())


def _nothing_sent(call: dict[str, Any]) -> None:
    del call["requestBody"]["content"]["application/json"]["example"]


def _nothing_answered(call: dict[str, Any]) -> None:
    del call["responses"]["200"]["content"]["application/json"]["example"]


def _other_answer(call: dict[str, Any]) -> None:
    call["responses"]["200"]["content"]["application/json"]["example"] = {"success": "no"}


def _no_codes(call: dict[str, Any]) -> None:
    del call["responses"]["409"]["content"][PROBLEM_JSON]["examples"]


def _no_summary(call: dict[str, Any]) -> None:
    call["summary"] = ""


def _unknown_refusal(call: dict[str, Any]) -> None:
    del call["responses"]["429"]


@pytest.mark.parametrize(
    "spoil", [_nothing_sent, _nothing_answered, _other_answer, _no_codes, _no_summary, _unknown_refusal]
)
def test_a_call_that_is_not_explained_is_noticed(document: dict[str, Any], spoil: Any) -> None:
    spoilt = copy.deepcopy(document)
    spoil(spoilt["paths"]["/client/register"]["post"])
    found = shortcomings(spoilt)
    assert found
    assert all(line.startswith("POST /client/register: ") for line in found)
