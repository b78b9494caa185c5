"""Audits: a client looks at somebody's update on its own data, and whatever that update is, nothing happens to it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import zstandard

from fed_compute.client.datasets import split_holdout
from fed_compute.client.datasets.dataset import HOLDOUT_SEED
from fed_compute.client.trainer import evaluate, set_threads
from fed_compute.errors import UpdateRefused
from fed_compute.learning.vectors import Vector
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.updates import encode_update
from tests.unit.client.fake_coordinator import FakeCoordinator, answering
from tests.unit.client.recipes import blobs, recipe_for, start_of
from tests.unit.client.volunteer import Volunteer, volunteer_at

BOTH_OFF: list[dict[str, Any]] = [{"client_audits": False}, {"client_share_loss": "hidden"}]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


def somebodys(recipe: Recipe, delta: Vector) -> bytes:
    """Return an update as another client sends it."""
    return encode_update(
        delta,
        encoding=recipe.encoding,
        compression=recipe.compression,
        topk_fraction=recipe.topk_fraction,
        schema_digest=recipe.schema_digest,
        num_samples=3,
        loss=0.5,
        train_seconds=1.0,
        rng=np.random.default_rng(0),
    )


def harm(recipe: Recipe, *, factor: float = 3.0) -> Vector:
    """Return a change that makes the first model worse."""
    return (start_of(recipe) * np.float32(-factor)).astype(np.float32)


def court(body: bytes | None = None, recipe: Recipe | None = None, **changes: Any) -> FakeCoordinator:
    """Return a coordinator that has one update audited."""
    recipe = recipe or recipe_for()
    body = somebodys(recipe, harm(recipe)) if body is None else body
    return FakeCoordinator(recipe=recipe, kinds=("audit",), audited=body, **changes)


def held_out_loss(recipe: Recipe, vector: Vector) -> float:
    """Return the loss on the samples that the volunteer below never trains on."""
    return evaluate(recipe, vector, split_holdout(blobs(100), recipe.holdout_fraction, HOLDOUT_SEED)[1]).loss


def bodies(coordinator: FakeCoordinator, last: str) -> list[bytes]:
    """Return the bodies that were sent to addresses with this last word."""
    return [one.content for one in coordinator.requests if one.content and one.url.path.endswith(f"/{last}")]


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("encoding", ["f32", "bf16", "f16", "int8", "topk"])
def test_an_audit_tells_the_loss_without_and_with_the_update(tmp_path: Path, encoding: str, compression: str) -> None:
    recipe = recipe_for(encoding=encoding, compression=compression, topk_fraction=0.5)
    coordinator = court(recipe=recipe)
    volunteer = volunteer_at(coordinator, tmp_path, client_share_loss="exact")
    assert volunteer.run(until_finished=True) == 1
    told = coordinator.audits["t_1"]
    vector = start_of(recipe)
    assert told["num_samples"] == 20
    assert told["base_loss"] == held_out_loss(recipe, vector)
    assert told["loss"] == pytest.approx(held_out_loss(recipe, vector + harm(recipe)), rel=0.3)
    assert float(str(told["loss"])) > float(str(told["base_loss"]))
    assert volunteer.watcher.names()[-3:] == ["task_received", "audited", "job_finished"]


def test_an_update_that_helps_is_told_to_help(tmp_path: Path) -> None:
    """The update is a real one, trained on other samples of the same kind."""
    other = FakeCoordinator(recipe=recipe_for(training={"lr": 1.0, "local_epochs": 20}))
    volunteer_at(other, tmp_path / "other", data=blobs(100, seed=1)).run(max_tasks=1)
    (body,) = bodies(other, "update")
    coordinator = court(body, recipe=other.recipe)
    volunteer_at(coordinator, tmp_path / "auditor").run(until_finished=True)
    told = coordinator.audits["t_1"]
    assert float(str(told["loss"])) < 0.9 * float(str(told["base_loss"]))


@pytest.mark.parametrize("values", [np.float32(1e38), np.float32(3e38), np.float32("nan"), np.float32("inf")])
def test_an_update_that_makes_the_loss_no_number_is_told_with_a_null(tmp_path: Path, values: np.float32) -> None:
    recipe = recipe_for()
    coordinator = court(somebodys(recipe, np.full_like(start_of(recipe), values)))
    volunteer = volunteer_at(coordinator, tmp_path)
    assert volunteer.run(until_finished=True) == 1
    (body,) = bodies(coordinator, "audit")
    assert json.loads(body)["loss"] is None
    assert volunteer.sent.departures[-1].says["loss"] is None


def test_losses_are_told_as_exactly_as_the_owner_wants(tmp_path: Path) -> None:
    coordinator = court()
    volunteer_at(coordinator, tmp_path, client_share_sample_count="rounded").run(until_finished=True)
    told, recipe = coordinator.audits["t_1"], coordinator.recipe
    assert told["num_samples"] == 16
    assert told["base_loss"] == float(f"{held_out_loss(recipe, start_of(recipe)):.2e}")


@pytest.mark.parametrize("limits", BOTH_OFF, ids=lambda limits: next(iter(limits)))
def test_audits_that_are_forbidden_are_not_asked_for_and_not_made(tmp_path: Path, limits: dict[str, Any]) -> None:
    """This coordinator hands them out all the same; they must not keep the machine from training."""
    coordinator = court(tasks_to_give=4)
    coordinator.kinds = ("audit", "train")
    volunteer = volunteer_at(coordinator, tmp_path, **limits)
    assert volunteer.run(until_finished=True) == 2
    polls = [request for request in coordinator.requests if request.url.path.startswith("/task/")]
    assert all("audit" not in request.url.params for request in polls)
    assert {refused["limit"] for refused in volunteer.watcher.all("policy_refused")} == {"CLIENT_AUDITS"}
    assert (coordinator.audits, coordinator.released) == ({}, ["t_1", "t_3"])
    assert (coordinator.calls["GET audited"], len(coordinator.updates)) == (0, 2)


def test_a_client_asks_for_audits_unless_told_otherwise(tmp_path: Path) -> None:
    coordinator = court()
    volunteer_at(coordinator, tmp_path).run(until_finished=True)
    polls = [request for request in coordinator.requests if request.url.path.startswith("/task/")]
    assert {request.url.params["audit"] for request in polls} == {"true"}


def test_an_audit_is_written_down_before_it_leaves_and_the_update_is_not_kept(tmp_path: Path) -> None:
    coordinator = court()
    volunteer = volunteer_at(coordinator, tmp_path, client_keep_updates=5)
    volunteer.run(until_finished=True)
    registration, audit = volunteer.sent.departures
    (body,) = bodies(coordinator, "audit")
    assert (registration.kind, audit.kind) == ("registration", "audit")
    assert (audit.num_bytes, audit.says) == (len(body), json.loads(body))
    assert (audit.job, audit.round_id, audit.model_version, audit.task_id) == ("default", 1, "v1", "t_1")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert all(coordinator.audited not in file.read_bytes() for file in files)
    assert not (tmp_path / "sent" / "updates").exists()


def test_an_answer_that_is_sent_again_is_the_same_and_logged_once(tmp_path: Path) -> None:
    coordinator = court(lost_replies={"POST audit": 2}, faults={"GET audited": [answering(503, "storage_busy")] * 2})
    volunteer = volunteer_at(coordinator, tmp_path)
    assert volunteer.run(until_finished=True) == 1
    assert len(set(bodies(coordinator, "audit"))) == 1
    assert (coordinator.calls["POST audit"], coordinator.calls["GET audited"]) == (3, 3)
    assert [one.kind for one in volunteer.sent.departures] == ["registration", "audit"]


@pytest.mark.parametrize("call", ["GET audited", "POST audit"])
def test_an_audit_that_was_closed_meanwhile_is_late_and_no_failure(tmp_path: Path, call: str) -> None:
    coordinator = court(tasks_to_give=2, faults={call: [answering(410, "lease_expired")]})
    volunteer = volunteer_at(coordinator, tmp_path)

    def over(name: str, fields: dict[str, Any]) -> None:
        coordinator.open_task = None if name == "task_over" else coordinator.open_task

    volunteer.watcher.on = over
    assert volunteer.run(until_finished=True) == 1
    assert (coordinator.released, list(coordinator.audits)) == ([], ["t_2"])


# --- lies --------------------------------------------------------------------------------------


def bomb(recipe: Recipe) -> bytes:
    """Return a few kilobytes that become two hundred megabytes."""
    return zstandard.ZstdCompressor().compress(bytes(2 * 10**8))


def of_another_model(recipe: Recipe) -> bytes:
    """Return a whole update for a smaller model."""
    other = recipe_for("linear", {"input_dim": 64, "output_dim": 10})
    return somebodys(other, np.ones(650, dtype=np.float32))


LIES: dict[str, Callable[[Recipe], bytes]] = {
    "nothing": lambda recipe: b"",
    "not a file": lambda recipe: b"\x00" * 100,
    "a pickle": lambda recipe: b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93.",
    "half a file": lambda recipe: somebodys(recipe, harm(recipe))[:-4],
    "another model": of_another_model,
    "another encoding": lambda recipe: somebodys(recipe_for(encoding="int8"), harm(recipe)),
    "compressed": lambda recipe: somebodys(recipe_for(compression="zstd"), harm(recipe)),
}


def lied_to(tmp_path: Path, lie: bytes, recipe: Recipe | None = None) -> Volunteer:
    """Give a client an audit of a lie, then a task to train; it must do the second."""
    coordinator = court(lie, recipe=recipe, tasks_to_give=2)
    coordinator.kinds = ("audit", "train")
    volunteer = volunteer_at(coordinator, tmp_path)
    assert volunteer.run(until_finished=True) == 1
    assert (coordinator.audits, coordinator.released, len(coordinator.updates)) == ({}, ["t_1"], 1)
    return volunteer


@pytest.mark.parametrize("lie", LIES)
def test_an_update_that_is_none_is_given_back_and_the_client_goes_on(tmp_path: Path, lie: str) -> None:
    volunteer = lied_to(tmp_path, LIES[lie](recipe_for()))
    (failed,) = volunteer.watcher.all("measuring_failed")
    assert failed["code"].startswith("update_")
    assert failed["why"].isprintable()


def test_a_few_bytes_never_become_many(tmp_path: Path) -> None:
    recipe = recipe_for(compression="zstd")
    volunteer = lied_to(tmp_path, bomb(recipe), recipe)
    assert "200000000 bytes" in volunteer.watcher.all("measuring_failed")[0]["why"]


def test_an_update_that_is_not_the_announced_one_is_not_looked_at(tmp_path: Path) -> None:
    """The lie is a whole, well formed update: only its digest differs from the task's."""
    recipe = recipe_for()
    other = somebodys(recipe, harm(recipe, factor=9))
    coordinator = court(faults={"GET audited": [lambda request: httpx2.Response(200, content=other)] * 50})
    volunteer = volunteer_at(coordinator, tmp_path)
    volunteer.stop_at("waiting")
    assert volunteer.run() == 0
    assert "the audited update hashes to sha-256" in volunteer.watcher.all("waiting")[0]["why"]
    assert (coordinator.audits, coordinator.released) == ({}, ["t_1"])


def test_a_longer_update_than_the_recipe_allows_is_not_read_to_its_end(tmp_path: Path) -> None:
    recipe = recipe_for()
    coordinator = court(somebodys(recipe, harm(recipe)) + bytes(100_000))
    volunteer = volunteer_at(coordinator, tmp_path)
    volunteer.stop_at("waiting")
    assert volunteer.run() == 0
    assert "is longer than" in volunteer.watcher.all("waiting")[0]["why"]


def test_a_coordinator_that_only_ever_lies_loses_its_client(tmp_path: Path) -> None:
    coordinator = court(b"no update", tasks_to_give=9)
    with pytest.raises(UpdateRefused):
        volunteer_at(coordinator, tmp_path).run()
    assert len(coordinator.released) == 5
