"""From a task and a vector to the bytes that are sent."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from fed_compute.client.datasets import Dataset
from fed_compute.client.trainer import set_threads
from fed_compute.client.work import FinishedUpdate, Workbench
from fed_compute.clock import ManualClock
from fed_compute.errors import DatasetInvalid, TrainingDiverged
from fed_compute.protocol.messages import SAFETENSORS, SAFETENSORS_ZSTD, Recipe
from fed_compute.protocol.updates import DecodedUpdate, decode_update
from tests.unit.client.recipes import blobs, recipe_for, start_of, task_for

ENCODINGS = ["f32", "bf16", "f16", "int8", "topk"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


def quiet(fraction: float) -> None:
    """Take no interest in progress."""


def bench(data: Dataset | None = None) -> Workbench:
    return Workbench(data or blobs(100), ManualClock())


def made(workbench: Workbench, recipe: Recipe, progress: Callable[[float], None] = quiet) -> FinishedUpdate:
    return workbench.train(task_for(recipe), start_of(recipe), client_id="me", progress=progress)


def arrived(update: FinishedUpdate, recipe: Recipe) -> DecodedUpdate:
    """Decode an update as the coordinator does."""
    return decode_update(
        update.body,
        num_parameters=start_of(recipe).size,
        schema_digest=recipe.schema_digest,
        encoding=recipe.encoding,
        compression=recipe.compression,
        topk_fraction=recipe.topk_fraction,
    )


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_update_arrives_in_the_encoding_of_its_recipe(encoding: str, compression: str) -> None:
    recipe = recipe_for(encoding=encoding, compression=compression)
    update = made(bench(), recipe)
    decoded = arrived(update, recipe)
    assert update.content_type == (SAFETENSORS_ZSTD if compression == "zstd" else SAFETENSORS)
    assert decoded.num_samples == update.result.num_samples == 80
    assert decoded.loss == update.result.loss
    if encoding == "f32":
        assert np.array_equal(decoded.delta, update.result.delta)
    else:
        assert np.linalg.norm(decoded.delta - update.result.delta) < 0.9 * np.linalg.norm(update.result.delta)


@pytest.mark.parametrize("encoding", ENCODINGS[1:])
def test_what_a_lossy_encoding_leaves_out_is_in_the_next_update(encoding: str) -> None:
    """Over two rounds, sent + unsent must be what was trained, or small gradients are lost for ever."""
    recipe, workbench = recipe_for(encoding=encoding), bench()
    first = made(workbench, recipe)
    workbench.accepted("default", first)
    second = made(workbench, recipe)
    assert second.residual is not None
    total = arrived(first, recipe).delta + arrived(second, recipe).delta + second.residual.unsent
    np.testing.assert_allclose(total, first.result.delta + second.result.delta, atol=1e-5)


@pytest.mark.parametrize("encoding", ["int8", "topk"])
def test_an_update_that_was_not_accepted_leaves_no_residual(encoding: str) -> None:
    """It was made for a model that is gone; half of it must not turn up later."""
    recipe, workbench = recipe_for(encoding=encoding), bench()
    assert made(workbench, recipe).body == made(workbench, recipe).body
    workbench.accepted("another job", made(workbench, recipe))
    assert made(workbench, recipe).body == made(bench(), recipe).body


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("limit", [1e-3, 0.05])
def test_what_arrives_keeps_the_maximum_norm_even_after_rounding(encoding: str, limit: float) -> None:
    """The coordinator refuses a longer update, however small the excess."""
    recipe, workbench = recipe_for(encoding=encoding, max_update_norm=limit), bench()
    for _ in range(3):
        update = made(workbench, recipe)
        assert math.sqrt(float(np.square(arrived(update, recipe).delta, dtype=np.float64).sum())) <= limit
        workbench.accepted("default", update)


def test_stochastic_rounding_differs_between_clients_and_not_between_runs() -> None:
    """Equal errors at every client would add up instead of averaging out."""
    recipe = recipe_for(encoding="int8")
    vector = start_of(recipe)
    bodies = [bench().train(task_for(recipe), vector, client_id=name, progress=quiet).body for name in ("a", "a", "b")]
    assert bodies[0] == bodies[1]
    assert bodies[0] != bodies[2]


def test_evaluation_uses_only_samples_that_training_never_saw() -> None:
    """Half of the data has the wrong labels: which half is judged shows whose samples they are."""
    recipe = recipe_for(holdout_fraction=0.5)
    workbench = bench()
    measured = workbench.evaluate(task_for(recipe, task="evaluate"), start_of(recipe))
    update = made(workbench, recipe)
    assert measured.num_samples + update.result.num_samples == 100
    marked = Dataset(np.arange(100, dtype=np.float32)[:, None], np.zeros(100, dtype=np.float32), "marks")
    args: dict[str, object] = {"input_dim": 1, "output_dim": 1}
    linear = recipe_for("linear", args, training={"loss": "mse", "lr": 1e-9}, holdout_fraction=0.5)
    identity = np.array([1.0, 0.0], dtype=np.float32)
    held_out = Workbench(marked, ManualClock()).evaluate(task_for(linear, task="evaluate"), identity)
    trained = Workbench(marked, ManualClock()).train(
        task_for(recipe_for("linear", args, training={"loss": "mse", "lr": 1e-9, "batch_size": 50},
                            holdout_fraction=0.5)), identity, client_id="me", progress=quiet)  # fmt: skip
    everything = float(np.square(np.arange(100)).sum())
    assert held_out.loss * 50 + trained.result.loss * 50 == pytest.approx(everything, rel=1e-4)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -3.0, float("nan")])
def test_a_held_out_fraction_that_makes_no_sense_is_refused(fraction: float) -> None:
    recipe = recipe_for().model_copy(update={"holdout_fraction": fraction})
    with pytest.raises(DatasetInvalid, match="held-out fraction"):
        made(bench(), recipe)


def test_an_update_claims_no_more_samples_than_the_recipe_allows() -> None:
    recipe = recipe_for(max_num_samples=50)
    assert arrived(made(bench(), recipe), recipe).num_samples == 50


def test_a_loss_that_nobody_would_believe_is_kept_back() -> None:
    """Targets that are not scaled make a mean squared error of millions; the update itself may be fine."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 3), dtype=np.float32), np.full((50, 1), 1e5, dtype=np.float32)
    recipe = recipe_for("linear", {"input_dim": 3, "output_dim": 1}, training={"loss": "mse", "lr": 1e-9})
    workbench = bench(Dataset(x, y, "unscaled"))
    update = made(workbench, recipe)
    assert update.result.loss > 1e6
    assert arrived(update, recipe).loss is None
    with pytest.raises(TrainingDiverged, match=r"at most 1e[+]06 is taken"):
        workbench.evaluate(task_for(recipe, task="evaluate"), start_of(recipe))
