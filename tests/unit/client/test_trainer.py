"""Local training: from the global parameters, repeatable, and clear about data that does not fit."""

from typing import Any

import numpy as np
import pytest
import torch

from fed_compute.client.datasets import Dataset, load_dataset, split_holdout
from fed_compute.client.trainer import EvaluationResult, choose_device, evaluate, set_threads, train
from fed_compute.errors import ExtraMissing, ModelMismatch, TrainingDiverged
from tests.unit.client.recipes import EVERY_MODEL, blobs, recipe_for, start_of


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


def as_tokens(dataset: Dataset, args: dict[str, object]) -> Dataset:
    """Return the data set as whole-number tokens if the model wants those."""
    return Dataset((dataset.x * 16).clip(0, 16).round(), dataset.y, "tokens") if "vocabulary" in args else dataset


@pytest.mark.parametrize(("name", "args"), EVERY_MODEL)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_same_recipe_vector_and_data_give_the_same_bits(name: str, args: dict[str, object], optimizer: str) -> None:
    """A volunteer's result can only be checked by repeating it."""
    recipe = recipe_for(name, args, training={"optimizer": optimizer, "lr": 0.01})
    vector, data = start_of(recipe), as_tokens(blobs(60), args)
    first = train(recipe, vector, data)
    torch.rand(3)  # whatever else happens in the process must not matter
    second = train(recipe, vector, data)
    assert first.delta.tobytes() == second.delta.tobytes()
    assert first.loss == second.loss
    assert np.abs(first.delta).max() > 0


def test_training_learns_the_real_digits_and_starts_where_the_last_round_ended() -> None:
    """Ten rounds of one epoch only add up if each starts from the vector it is given."""
    training, held_out = split_holdout(load_dataset("digits"), 0.2, seed=0)
    recipe = recipe_for()
    vector = start_of(recipe)
    before = evaluate(recipe, vector, held_out)
    for _ in range(10):
        vector = vector + train(recipe, vector, training).delta
    after = evaluate(recipe, vector, held_out)
    assert before.accuracy is not None
    assert after.accuracy is not None
    assert before.accuracy < 0.3
    assert after.accuracy > 0.9
    assert after.loss < before.loss


def test_one_full_batch_step_of_sgd_is_minus_the_rate_times_the_gradient() -> None:
    """The delta is trained minus global: the sign and the starting point both matter."""
    data = blobs(40)
    recipe = recipe_for(
        "linear", {"input_dim": 64, "output_dim": 10}, training={"lr": 0.5, "batch_size": 40, "local_epochs": 1}
    )
    vector = start_of(recipe)
    weight, bias = vector[:640].reshape(10, 64).astype(np.float64), vector[640:].astype(np.float64)
    logits = data.x @ weight.T + bias
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(40), data.y] -= 1
    gradient = np.concatenate([(shares.T @ data.x / 40).ravel(), shares.mean(axis=0)])
    np.testing.assert_allclose(train(recipe, vector, data).delta, -0.5 * gradient, rtol=1e-3, atol=1e-6)


def test_clipped_gradients_bound_the_step() -> None:
    recipe = recipe_for(training={"lr": 1.0, "batch_size": 200, "max_grad_norm": 0.01})
    assert np.linalg.norm(train(recipe, start_of(recipe), blobs()).delta) <= 0.01 * 1.001


def test_regression_with_mse_learns_and_has_no_accuracy() -> None:
    stream = np.random.Generator(np.random.PCG64(0))
    x = stream.normal(size=(300, 10)).astype(np.float32)
    data = Dataset(x, x.sum(axis=1), "sums")
    args: dict[str, object] = {"input_dim": 10, "hidden_dim": 32, "output_dim": 1}
    recipe = recipe_for("simple_mlp", args, training={"loss": "mse", "lr": 0.05, "local_epochs": 20})
    vector = start_of(recipe)
    before, after = (evaluate(recipe, v, data) for v in (vector, vector + train(recipe, vector, data).delta))
    assert after.loss < before.loss / 10
    assert after == EvaluationResult(300, after.loss, None)


def test_progress_comes_after_each_batch_and_may_stop_the_training() -> None:
    """Heartbeats, simulated dropouts and the owner's wish to stop all come in this way."""

    class EnoughError(Exception):
        pass

    seen: list[float] = []

    def progress(fraction: float) -> None:
        seen.append(fraction)
        if fraction >= 0.5:
            raise EnoughError

    recipe = recipe_for(training={"batch_size": 50, "local_epochs": 2})
    with pytest.raises(EnoughError):
        train(recipe, start_of(recipe), blobs(200), progress=progress)
    assert seen == [0.125, 0.25, 0.375, 0.5]


def test_training_leaves_the_vector_and_the_random_state_alone() -> None:
    """A simulator trains many clients in one process."""
    recipe = recipe_for()
    vector = start_of(recipe)
    kept, state = vector.copy(), torch.random.get_rng_state()
    train(recipe, vector, blobs(50))
    evaluate(recipe, vector, blobs(50))
    assert np.array_equal(vector, kept)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("seed", [-1, 2**64 + 3, 2**63])
def test_any_seed_that_a_coordinator_may_send_is_usable(seed: int) -> None:
    recipe = recipe_for(seed=seed)
    assert np.isfinite(train(recipe, start_of(recipe), blobs(20)).delta).all()


@pytest.mark.parametrize("lr", [1e30, 1e6])
def test_training_that_diverges_is_an_error_and_never_an_update(lr: float) -> None:
    recipe = recipe_for(training={"lr": lr, "local_epochs": 20, "weight_decay": 1.0})
    with pytest.raises(TrainingDiverged, match="smaller"):
        train(recipe, start_of(recipe), blobs())


@pytest.mark.parametrize(
    ("args", "training", "change", "says"),
    [
        ({"input_dim": 63, "output_dim": 10}, {}, {}, "64 values, the model takes 63"),
        ({"input_dim": 64, "output_dim": 9}, {}, {}, "classes from 0 to 9.*takes classes 0 to 8"),
        ({"input_dim": 64, "output_dim": 10}, {"loss": "mse"}, {}, "1 per sample; the model has 10"),
        ({"input_dim": 64, "output_dim": 10}, {}, {"y": np.full(200, -1)}, "classes from -1 to -1"),
        (
            {"input_dim": 64, "output_dim": 10},
            {},
            {"y": np.ones(200, dtype=np.float32)},
            "labels of type float32.*cross_entropy wants",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused_with_found_and_wanted(
    args: dict[str, object], training: dict[str, Any], change: dict[str, np.ndarray], says: str
) -> None:
    data = blobs()
    recipe = recipe_for("linear", args, training=training)
    data = Dataset(change.get("x", data.x), change.get("y", data.y), "odd")
    for act in (train, evaluate):
        with pytest.raises(ModelMismatch, match=says):
            act(recipe, start_of(recipe), data)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.full((2, 3), 5, dtype=np.int64), "from 5 to 5.*from 0 to 4"),
        (np.full((2, 3), 0.5, dtype=np.float32), "not all whole numbers"),
        (np.zeros((2, 4), dtype=np.int64), "4 values, the model takes 3"),
    ],
)
def test_tokens_outside_the_vocabulary_are_refused(x: np.ndarray, says: str) -> None:
    recipe = recipe_for("tiny_transformer", {"sequence_length": 3, "vocabulary": 5, "output_dim": 2})
    with pytest.raises(ModelMismatch, match=says):
        train(recipe, start_of(recipe), Dataset(x, np.zeros(2, dtype=np.int64), "tokens"))


def test_images_of_another_shape_are_refused_even_with_as_many_values() -> None:
    recipe = recipe_for("small_cnn", {"height": 8, "width": 8, "output_dim": 10})
    data = Dataset(np.zeros((2, 1, 4, 16), dtype=np.float32), np.zeros(2, dtype=np.int64), "wide")
    with pytest.raises(ModelMismatch, match=r"\(1, 4, 16\), the model takes \(1, 8, 8\)"):
        train(recipe, start_of(recipe), data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_asking_for_cuda_on_a_machine_without_it_is_an_error_and_auto_takes_the_cpu() -> None:
    with pytest.raises(ExtraMissing):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA")
def test_training_on_cuda_comes_close_to_training_on_the_cpu() -> None:
    recipe = recipe_for()
    there, here = (train(recipe, start_of(recipe), blobs(), device=device) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(there.delta, here.delta, atol=1e-4)
