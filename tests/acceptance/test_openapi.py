"""The OpenAPI document and the server agree: whatever is sent, each answer is one that the document names."""

import copy
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fed_compute.coordinator.invites import Terms
from fed_compute.protocol.messages import PROTOCOL_HEADER, SAFETENSORS, SAFETENSORS_ZSTD
from fed_compute.server.problems import PROBLEM_JSON
from fed_compute.server.uploads import PARTIAL_UPLOAD
from tests.acceptance.conftest import Serve, update_body

CHECKS: list[CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDLESS = "/events"
"""A feed that ends with the server; what it refuses is among the bad inputs."""

FEW, PATIENCE_SECONDS = 5, 300
BODIES = st.binary(max_size=400) | st.integers(2, 400).map(
    lambda n: n.to_bytes(8, "little") + b"{}".ljust(n) + bytes(80)
)
"""What is sent as an update: anything, or what begins like one."""

for kind in (SAFETENSORS, SAFETENSORS_ZSTD, PARTIAL_UPLOAD):
    schemathesis.openapi.media_type(kind, BODIES)


@dataclass(frozen=True)
class Player:
    """Who asks, and the things of its own that it asks about."""

    key: str | None
    names: dict[str, Any]


@dataclass(frozen=True)
class Fuzzed:
    """A server, what its document says, and who asks."""

    schema: Any
    players: list[Player]
    session: requests.Session


@pytest.fixture(scope="module")
def fuzzed(serve_job: Serve) -> Iterator[Fuzzed]:
    """A server with a closed round and an open one, and clients in every situation."""
    assert importlib.util.find_spec("niquests") is None, "niquests takes the place of urllib3, which breaks requests"
    served = serve_job(
        requests_per_minute=10**6,
        updates_per_minute=10**6,
        registrations_per_hour=10**6,
        heartbeat_seconds=3600.0,
        failed_authentications_per_minute=10**6,
        network_requests_per_minute=10**6,
        json_max_bytes=10**6,
    )
    members = [served.join(f"client-{number}") for number in range(3)]
    tasks = [member.task() for member in members]  # of which the first two close the round
    for member, task in zip(members[:2], tasks, strict=False):
        assert member.put(task, update_body(task)).status_code == 201
    give_up_at = time.monotonic() + 20
    while served.http.get("/aggregate/1").status_code != 200:
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    tasks.append(members[0].task())  # of an evaluation
    tasks.append(members[1].get_task(job="default").json())
    given_back = served.join("given-back")
    members.append(given_back)
    tasks.insert(3, given_back.task())
    assert given_back.http.delete(f"/tasks/{tasks[3]['task_id']}").status_code == 200
    observer = served.coordinator.keys.issue("observer", label="", lifetime_seconds=None, by="test").key.key_id
    invite = served.coordinator.invites.create(Terms(), by="test").invite.invite_id
    there = {"round_id": 1, "version": "v1", "name": "default", "key_id": observer, "invite_id": invite}
    pairs = [*zip(members, tasks, strict=False), *zip(members, tasks[4:], strict=False)]
    players = [
        Player(member.key, {**there, "client_id": member.client_id, "task_id": task["task_id"]})
        for member, task in pairs
    ]
    players.append(Player(served.operator_key, {**players[0].names, "round_id": 2, "version": "latest"}))
    players.append(Player(None, {**players[0].names, "round_id": 99, "version": "v2"}))
    schema = schemathesis.openapi.from_dict(without_examples(served.http.get("/openapi.json").json()))
    schema.config.update(base_url=served.url)
    with requests.Session() as session:
        yield Fuzzed(schema, players, session)


def without_examples(part: Any) -> Any:
    """Return a document without its examples: they are of another run, and would be drawn again and again."""
    if isinstance(part, dict):
        return {name: without_examples(inner) for name, inner in part.items() if name not in ("example", "examples")}
    return [without_examples(inner) for inner in part] if isinstance(part, list) else part


@st.composite
def asked(draw: st.DrawFn, operation: APIOperation, players: list[Player]) -> tuple[Case, str | None]:
    """Draw a request, right or wrong, in half of all cases about something of the asker's own; and a key."""
    player = draw(st.sampled_from(players))
    wanted = [parameter.name for parameter in operation.path_parameters]
    fixed: dict[str, dict[str, Any] | None] = {
        "path_parameters": {name: player.names[name] for name in wanted} if wanted and draw(st.booleans()) else None,
        "headers": {PROTOCOL_HEADER: "1"} if draw(st.integers(0, 9)) else None,
        "query": {"wait": 0} if any(parameter.name == "wait" for parameter in operation.query) else None,
    }
    mode = draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
    if mode is GenerationMode.NEGATIVE and not _can_be_wrong(operation, fixed):
        mode = GenerationMode.POSITIVE
    return draw(operation.as_strategy(mode, **fixed)), player.key


def _can_be_wrong(operation: APIOperation, fixed: dict[str, dict[str, Any] | None]) -> bool:
    """Say whether there is anything left of an operation that can be made wrong."""
    parameters = {"path_parameters": operation.path_parameters, "headers": operation.headers, "query": operation.query}
    left = [name for place, known in parameters.items() for name in {p.name for p in known} - set(fixed[place] or ())]
    return bool(left or operation.body)


def fuzz(fuzzed: Fuzzed, operation: APIOperation) -> set[int]:
    """Call an operation in many ways; return the statuses that came back."""
    seen: set[int] = set()
    most = settings().max_examples  # a body may be wrong in more ways than a path, a path in more than nothing
    about = len(list(operation.path_parameters)) > 0

    @settings(
        max_examples=most if operation.body else most // 2 if about else FEW,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(asked(operation, fuzzed.players))
    def ask(request: tuple[Case, str | None]) -> None:
        case, key = request
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        response = case.call(session=fuzzed.session, headers=headers, timeout=20)
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()
    return seen


@pytest.mark.timeout(PATIENCE_SECONDS)
def test_every_answer_is_one_that_the_document_names(fuzzed: Fuzzed) -> None:
    """No 5xx, no status, media type, header or form of body that is not documented."""
    operations = [result.ok() for result in fuzzed.schema.get_all_operations()]
    operations.sort(key=lambda operation: operation.method == "delete")  # what is given back is of no use to others
    seen = {operation.label: fuzz(fuzzed, operation) for operation in operations if operation.path != ENDLESS}
    assert len(seen) >= 27
    assert [label for label, statuses in seen.items() if not statuses] == []
    # 204 wants a piece in its place, 400 a broken body: both are drawn in some runs only.
    often = {200, 401, 403, 404, 409, 410, 413, 422, 426}
    assert often <= set().union(*seen.values())


def _forget_404(call: dict[str, Any]) -> None:
    del call["responses"]["404"]


def _promise_more(call: dict[str, Any]) -> None:
    more = {"allOf": [call["responses"]["200"]["content"]["application/json"]["schema"], {"required": ["more"]}]}
    call["responses"]["200"]["content"]["application/json"]["schema"] = more


def _promise_text(call: dict[str, Any]) -> None:
    call["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}


def _name_other_codes(call: dict[str, Any]) -> None:
    call["responses"]["422"]["content"][PROBLEM_JSON]["schema"]["allOf"][1]["properties"]["code"] = {"const": "other"}


@pytest.mark.parametrize("change", [_forget_404, _promise_more, _promise_text, _name_other_codes])
def test_a_document_that_does_not_tell_the_truth_is_noticed(fuzzed: Fuzzed, change: Callable[[Any], None]) -> None:
    path, document = "/status/{round_id}", copy.deepcopy(fuzzed.schema.raw_schema)
    change(document["paths"][path]["get"])
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=fuzzed.schema.config.base_url)
    with pytest.raises(FailureGroup):
        fuzz(replace(fuzzed, schema=schema), schema[path]["GET"])
