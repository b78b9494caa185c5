"""Training many models at once gives what the product's trainer gives one by one."""

import numpy as np
import pytest
import torch

from fed_compute.client.models import build_model
from fed_compute.client.trainer import evaluate, set_threads, train
from fed_compute.protocol.architectures import built_in_schema
from fed_compute.simulator.stacked import StackedModel
from tests.unit.client.recipes import DIGITS_ARGS, blobs, recipe_for, start_of

MODELS: list[tuple[str, dict[str, object]]] = [
    ("linear", {"input_dim": 64, "output_dim": 10}),
    ("simple_mlp", DIGITS_ARGS),
    ("simple_mlp", {"input_dim": 64, "hidden": [32], "output_dim": 10}),
    ("small_cnn", {"channels": 1, "height": 8, "width": 8, "output_dim": 10}),
]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


@pytest.mark.parametrize(("name", "args"), MODELS)
def test_one_stacked_step_is_what_the_trainer_does_for_each_client_of_each_run(
    name: str, args: dict[str, object]
) -> None:
    recipe = recipe_for(name, args, training={"lr": 0.5, "batch_size": 8, "local_epochs": 1})
    vector = start_of(recipe)
    vectors = np.stack([vector, vector * np.float32(1.25)])
    clients = [blobs(8, seed=seed) for seed in range(3)]
    inputs = torch.from_numpy(np.stack([client.x for client in clients]))
    classes = torch.from_numpy(np.broadcast_to(np.stack([client.y for client in clients]), (2, 3, 8)).copy())
    gradients = StackedModel(build_model(recipe), built_in_schema(name, args)).gradients(vectors, inputs, classes)
    assert gradients.dtype == np.float32
    for run in range(2):
        for place, client in enumerate(clients):
            delta = train(recipe, vectors[run], client).delta
            np.testing.assert_allclose(-0.5 * gradients[run, place], delta, rtol=1e-3, atol=2e-6)


def test_labels_may_differ_from_run_to_run() -> None:
    recipe, data = recipe_for(), blobs(8)
    model = StackedModel(build_model(recipe), built_in_schema("simple_mlp", DIGITS_ARGS))
    vectors = np.stack([start_of(recipe)] * 2)
    classes = torch.from_numpy(np.stack([data.y, 9 - data.y]))[:, None]
    first, second = model.gradients(vectors, torch.from_numpy(data.x)[None], classes)
    assert not np.allclose(first, second)


def test_more_runs_than_are_worked_on_at_once_keep_their_order() -> None:
    recipe, data = recipe_for(), blobs(4)
    model = StackedModel(build_model(recipe), built_in_schema("simple_mlp", DIGITS_ARGS))
    vectors = np.stack([start_of(recipe) * np.float32(1 + i / 40) for i in range(37)])
    inputs = torch.from_numpy(data.x)[None]
    classes = torch.from_numpy(np.broadcast_to(data.y, (37, 1, 4)).copy())
    together = model.gradients(vectors, inputs, classes)
    alone = np.concatenate([model.gradients(vectors[i : i + 1], inputs, classes[i : i + 1]) for i in range(37)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_the_accuracy_of_each_vector_is_what_the_trainer_measures() -> None:
    recipe, data = recipe_for(training={"lr": 0.5, "local_epochs": 10}), blobs(200)
    start = start_of(recipe)
    trained = start + train(recipe, start, data).delta
    model = StackedModel(build_model(recipe), built_in_schema("simple_mlp", DIGITS_ARGS))
    found = model.accuracies(np.stack([start, trained]), torch.from_numpy(data.x), torch.from_numpy(data.y))
    wanted = [evaluate(recipe, vector, data).accuracy or 0.0 for vector in (start, trained)]
    np.testing.assert_allclose(found, 100 * np.array(wanted), atol=0.5)
    assert found[1] > found[0] + 20
