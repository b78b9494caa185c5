"""A coordinator that lies: whatever it sends, this machine runs no code of it, fills no memory and sends nothing."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.answers import printable
from fed_compute.client.api import CoordinatorApi
from fed_compute.client.models import build_model
from fed_compute.client.recipes import schema_of
from fed_compute.client.trainer import set_threads
from fed_compute.errors import AnswerUnusable, FedComputeError, ModelMismatch, NotNow
from fed_compute.protocol.messages import AuditRequest, RegisterRequest, TaskAnswer
from fed_compute.protocol.models import encode_model
from fed_compute.protocol.schema import Parameter, ParameterSchema
from tests.unit.client.fake_coordinator import FakeCoordinator, problem
from tests.unit.client.recipes import recipe_for, start_of, task_for
from tests.unit.client.volunteer import Volunteer, volunteer_at

HOSTILE = "\x1b]0;owned\x07\x1b[2Jdefault\u202e"
"""Text that sets a terminal's title, clears it, and turns the direction of writing."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


def edited(path: str, value: object) -> bytes:
    """Return an honest task as JSON with the value at `a.b.c` replaced, `lr` as the JSON text `Infinity` if need be."""
    task: dict[str, Any] = json.loads(task_for(recipe_for()).model_dump_json())
    *parents, last = path.split(".")
    place = task
    for parent in parents:
        place = place[parent]
    place[last] = value
    return json.dumps(task).encode()


def told(answer: bytes) -> Callable[[httpx2.Request], httpx2.Response]:
    return lambda request: httpx2.Response(200, content=answer)


def at_a_liar(tmp_path: Path, call: str, lie: Callable[[httpx2.Request], httpx2.Response]) -> Volunteer:
    """Run a client at a coordinator that answers one call with a lie until the client says that it waits."""
    coordinator = FakeCoordinator(faults={call: [lie] * 50})
    volunteer = volunteer_at(coordinator, tmp_path)
    volunteer.stop_at("waiting")
    assert volunteer.run() == 0
    assert coordinator.calls["PUT update"] == 0
    return volunteer


ABSURD: list[tuple[str, object]] = [
    ("recipe.training.local_epochs", 10**9),
    ("recipe.training.local_epochs", 0),
    ("recipe.training.local_epochs", True),
    ("recipe.training.batch_size", 0),
    ("recipe.training.batch_size", -32),
    ("recipe.training.lr", float("inf")),
    ("recipe.training.lr", float("nan")),
    ("recipe.training.lr", "0.1"),
    ("recipe.training.momentum", 1.5),
    ("recipe.training.max_grad_norm", 0),
    ("recipe.training.report_steps", 1),
    ("recipe.training.proximal_mu", -0.1),
    ("recipe.training.proximal_mu", float("nan")),
    ("recipe.training.proximal_mu", 1e9),
    ("recipe.training.callback", "http://evil.test/run.py"),
    ("recipe.training.optimizer", "os.system"),
    ("recipe.training.loss", "__import__('os')"),
    ("recipe.holdout_fraction", 1.0),
    ("recipe.holdout_fraction", float("nan")),
    ("recipe.topk_fraction", 0.0),
    ("recipe.topk_fraction", 7.0),
    ("recipe.max_update_norm", -1.0),
    ("recipe.max_update_norm", float("inf")),
    ("recipe.encoding", "pickle"),
    ("recipe.compression", "bz2"),
    ("recipe.schema_digest", "0" * 63),
    ("recipe.model", ""),
    ("recipe.model", "m" * 81),
    ("recipe.parameters", [["w", [0]]]),
    ("recipe.parameters", [["w", [-1]]]),
    ("recipe.parameters", [["w", [2**70]]]),
    ("recipe.parameters", [["w", [1] * 17]]),
    ("recipe.parameters", [["w" * 161, [1]]]),
    ("round_id", 0),
    ("round_id", "1"),
    ("model_version", "../../admin"),
    ("model_version", "v0"),
    ("task", "upload_files"),
    ("task_id", "../admin"),
    ("task_id", HOSTILE),
    ("job", HOSTILE),
    ("job", "Digits"),
    ("model_digest", "z" * 64),
    ("seconds_left", float("inf")),
    ("seconds_left", -1),
    ("heartbeat_seconds", float("nan")),
    ("deadline", float("-inf")),
    ("min_updates", 0),
    ("min_updates", 2.5),
    ("auditors", -1),
    ("auditors", True),
    ("task", "audit"),
    ("audited_digest", "0" * 64),
    ("audited_digest", "../../admin"),
    ("control_digest", "0" * 64),
    ("recipe.training.control_variates", 1.5),
    ("recipe.training.control_variates", -0.1),
    ("recipe.training.control_variates", float("nan")),
]


@pytest.mark.parametrize(("path", "value"), ABSURD, ids=[f"{path}={str(value)[:20]!r}" for path, value in ABSURD])
def test_a_task_with_an_absurd_number_or_word_is_refused_before_anything_is_done(
    tmp_path: Path, path: str, value: object
) -> None:
    volunteer = at_a_liar(tmp_path, "GET task", told(edited(path, value)))
    (waiting,) = volunteer.watcher.all("waiting")
    assert waiting["code"] == "answer_unusable"
    assert waiting["why"].isprintable()
    assert "task_received" not in volunteer.watcher.names()


def test_the_honest_task_behind_these_lies_is_taken() -> None:
    assert TaskAnswer.model_validate_json(edited("round_id", 1)) == task_for(recipe_for())


def test_a_model_larger_than_allowed_is_refused_before_it_is_downloaded(tmp_path: Path) -> None:
    """A recipe may name four billion parameters with a digest that fits; that is seventeen gigabytes."""
    args = {"input_dim": 1_000_000, "hidden": [4000], "output_dim": 10}
    coordinator = FakeCoordinator(tasks_to_give=9)
    coordinator.recipe = recipe_for("simple_mlp", args)
    coordinator.vector = start_of(recipe_for())
    coordinator.model_file = lambda: b""  # type: ignore[method-assign]
    volunteer = volunteer_at(coordinator, tmp_path)
    assert volunteer.run(max_tasks=1) == 0
    assert "16,0" in volunteer.watcher.all("policy_refused")[0]["why"]
    assert volunteer.watcher.all("policy_refused")[0]["limit"] == "CLIENT_MAX_MODEL_MEGABYTES"
    assert (coordinator.calls["GET model"], coordinator.released) == (0, ["t_1"])


def test_arguments_that_do_not_fit_the_parameters_build_nothing() -> None:
    """A small list of parameters with the arguments of a huge model would pass every check of size."""
    small = recipe_for()
    huge = small.model_copy(update={"model_args": {"input_dim": 64, "hidden": [30_000, 30_000], "output_dim": 10}})
    with pytest.raises(ModelMismatch, match=r"'layers.0.weight'.*\[30000, 64\].*wants shape \[32, 64\]"):
        build_model(huge)


@pytest.mark.parametrize(
    ("model", "args"),
    [
        ("simple_mlp", {"input_dim": 64, "output_dim": 10, "hidden": [1] * 100_000}),
        ("simple_mlp", {"input_dim": 64, "output_dim": 10, "hidden_dim": 10**9}),
        ("tiny_transformer", {"sequence_length": 8, "token_dim": 8, "output_dim": 10, "layers": 10**9}),
        ("small_cnn", {"channels": 1, "height": 10**12, "width": 8, "output_dim": 10}),
        ("linear", {"input_dim": 64, "output_dim": 10, "__class__": "os.system"}),
    ],
)
def test_absurd_arguments_of_a_model_are_refused(model: str, args: dict[str, object]) -> None:
    with pytest.raises(ModelMismatch):
        build_model(recipe_for().model_copy(update={"model": model, "model_args": args}))


def test_parameters_in_another_order_are_refused() -> None:
    recipe = recipe_for()
    names = [(name, list(shape)) for name, shape in reversed(recipe.parameters)]
    schema = ParameterSchema(tuple(Parameter(name, tuple(shape)) for name, shape in names))
    turned = recipe.model_copy(update={"parameters": names, "schema_digest": schema.digest()})
    with pytest.raises(ModelMismatch, match="another order"):
        build_model(turned)


def test_a_schema_digest_of_another_model_is_refused() -> None:
    lie = recipe_for().model_copy(update={"schema_digest": "0" * 64})
    with pytest.raises(ModelMismatch, match="hash to"):
        schema_of(lie)


def test_a_model_that_is_not_the_announced_one_is_never_trained(tmp_path: Path) -> None:
    """The lie is a whole, well formed model: only its digest differs from the task's."""
    recipe = recipe_for()
    other = encode_model(start_of(recipe) * 2, schema_of(recipe))
    coordinator = FakeCoordinator(recipe=recipe, faults={"GET model": [told(other)] * 50})
    volunteer = volunteer_at(coordinator, tmp_path)
    volunteer.stop_at("waiting")
    assert volunteer.run() == 0
    assert "hashes to sha-256" in volunteer.watcher.all("waiting")[0]["why"]
    assert "trained" not in volunteer.watcher.names()
    assert coordinator.released == ["t_1"]


def endless(sent: list[int]) -> Iterator[bytes]:
    while True:
        sent.append(16_384)
        yield b"[" * 16_384


CALLS: dict[str, tuple[int, Callable[[CoordinatorApi], object]]] = {
    "register": (64 << 10, lambda api: api.register(RegisterRequest(client_name="me"))),
    "next_task": (2 << 20, lambda api: api.next_task("me", wait_seconds=0)),
    "download_model": (1000, lambda api: api.download_model("v1", job="j", digest="0" * 64, max_bytes=1000)),
    "download_of_task": (1000, lambda api: api.download_of_task("t_1", "audited", digest="0" * 64, max_bytes=1000)),
    "submit_measurement": (
        64 << 10,
        lambda api: api.submit_measurement("t_1", AuditRequest(num_samples=1, base_loss=1.0, loss=None)),
    ),
    "submit_update": (64 << 10, lambda api: api.submit_update("t_1", b"x", "x/y")),
    "heartbeat": (64 << 10, lambda api: api.heartbeat("t_1", 0.5)),
    "release_task": (64 << 10, lambda api: api.release_task("t_1")),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("status", [200, 201, 400, 401, 404, 500])
def test_no_answer_is_read_beyond_its_limit(name: str, status: int) -> None:
    """Endless answers, errors too; and what was read of nested brackets is not blown up in memory."""
    limit, call = CALLS[name]
    sent: list[int] = []
    api = CoordinatorApi(
        "http://coordinator.test",
        max_retries=0,
        transport=httpx2.MockTransport(lambda request: httpx2.Response(status, content=endless(sent))),
    )
    with pytest.raises(FedComputeError) as caught:
        call(api)
    assert sum(sent) <= max(limit, 64 << 10) + 4 * 16_384
    if status < 300:
        assert isinstance(caught.value, AnswerUnusable)


def test_a_download_that_drips_for_ever_ends_when_the_client_has_to_stop() -> None:
    drips = 0

    def drip() -> Iterator[bytes]:
        nonlocal drips
        while True:
            drips += 1
            yield b"x"

    api = CoordinatorApi(
        "http://coordinator.test",
        max_retries=0,
        give_up=lambda: drips > 100,
        transport=httpx2.MockTransport(lambda request: httpx2.Response(200, content=drip())),
    )
    with pytest.raises(AnswerUnusable, match="had to stop"):
        api.download_model("v1", job="j", digest="0" * 64, max_bytes=10**9)
    assert drips < 120


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_carries_key_or_update_to_another_place(status: int) -> None:
    seen: list[str] = []

    def moved(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        return httpx2.Response(status, headers={"Location": "http://evil.test/take"})

    api = CoordinatorApi("http://coordinator.test", api_key="sk_a_b", transport=httpx2.MockTransport(moved))
    for _, call in CALLS.values():
        with pytest.raises(FedComputeError):
            call(api)
    assert len(seen) == len(CALLS)
    assert all(url.startswith("http://coordinator.test/") for url in seen)


LIES_IN_WORDS: list[tuple[str, Callable[[httpx2.Request], httpx2.Response]]] = [
    ("GET task", lambda request: problem(503, HOSTILE, HOSTILE)),
    ("GET task", lambda request: httpx2.Response(503, content=HOSTILE.encode())),
    ("POST register", lambda request: problem(500, "x", HOSTILE)),
    ("GET task", told(json.dumps({HOSTILE: HOSTILE}).encode())),
    ("GET task", told(edited(f"recipe.training.{HOSTILE}", 1))),
]


@pytest.mark.parametrize(("call", "lie"), LIES_IN_WORDS)
def test_nothing_that_a_coordinator_says_can_steer_a_terminal(
    tmp_path: Path, call: str, lie: Callable[[httpx2.Request], httpx2.Response]
) -> None:
    volunteer = at_a_liar(tmp_path, call, lie)
    for _, fields in volunteer.watcher.events:
        assert all(str(value).isprintable() for value in fields.values())


@given(st.text())
def test_shown_text_keeps_what_can_be_shown(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert all(one == other for one, other in zip(text, shown, strict=True) if one.isprintable())


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=10))
def test_any_json_in_place_of_a_recipe_is_an_answer_that_cannot_be_used(junk: object) -> None:
    task = json.dumps({**json.loads(task_for(recipe_for()).model_dump_json()), "recipe": junk})
    api = CoordinatorApi(
        "http://coordinator.test", max_retries=0, transport=httpx2.MockTransport(told(task.encode("utf-8", "replace")))
    )
    with pytest.raises(NotNow) as caught:
        api.next_task("me", wait_seconds=0)
    assert re.search("not a TaskAnswer", caught.value.message)
