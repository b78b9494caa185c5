"""SCAFFOLD: a vector that is added to each step's gradient."""

import numpy as np
import pytest
import torch
from torch import nn

from fed_compute.client.recipes import schema_of
from fed_compute.client.trainer import set_threads, train
from fed_compute.client.trainer_controls import Correction
from fed_compute.protocol.schema import Parameter, ParameterSchema, Vector
from tests.unit.client.recipes import blobs, recipe_for, start_of
from tests.unit.client.test_trainer_proximal import LINEAR, cross_entropy_gradient


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


def drawn(size: int, *, scale: float = 0.1) -> Vector:
    return (np.random.default_rng(3).normal(size=size) * scale).astype(np.float32)


def test_each_step_goes_along_its_gradient_and_what_is_added() -> None:
    data, lr = blobs(40), 0.5
    recipe = recipe_for("linear", LINEAR, training={"lr": lr, "batch_size": 40, "local_epochs": 3})
    vector = start_of(recipe)
    added = drawn(vector.size)
    start = vector.astype(np.float64)
    by_hand = start.copy()
    for _ in range(3):
        by_hand -= lr * (cross_entropy_gradient(by_hand, data.x, data.y) + added)
    np.testing.assert_allclose(train(recipe, vector, data, added=added).delta, by_hand - start, rtol=1e-3, atol=1e-6)


def test_where_nothing_is_added_nothing_changes() -> None:
    recipe = recipe_for(training={"local_epochs": 2})
    vector, data = start_of(recipe), blobs()
    zero = np.zeros_like(vector)
    assert train(recipe, vector, data, added=zero).delta.tobytes() == train(recipe, vector, data).delta.tobytes()


def test_the_limit_on_the_gradient_does_not_hold_for_what_is_added() -> None:
    """Else nobody could tell from the update what the gradient was."""
    training = {"lr": 1.0, "batch_size": 200, "local_epochs": 2, "max_grad_norm": 1e-3}
    recipe = recipe_for(training=training)
    vector = start_of(recipe)
    added = drawn(vector.size)
    delta = train(recipe, vector, blobs(200), added=added).delta
    assert np.linalg.norm(delta + 2 * added) <= 2 * 1e-3 * 1.01


def test_each_parameter_gets_its_own_piece_and_missing_gradients_stay_missing() -> None:
    module = nn.Module()
    module.table, module.unused = nn.Embedding(3, 2, sparse=True), nn.Parameter(torch.ones(2))
    module.register_buffer("seen", torch.zeros(1))
    schema = ParameterSchema((Parameter("unused", (2,)), Parameter("seen", (1,)), Parameter("table.weight", (3, 2))))
    turn = Correction(module, schema, np.arange(9, dtype=np.float32))
    module.table(torch.tensor([1])).sum().backward()
    turn.add_gradient()
    assert module.table.weight.grad is not None
    assert module.table.weight.grad.tolist() == [[3.0, 4.0], [6.0, 7.0], [7.0, 8.0]]
    assert module.unused.grad is None


def test_the_schema_of_a_recipe_names_every_parameter() -> None:
    recipe = recipe_for()
    added = np.ones(schema_of(recipe).num_parameters, dtype=np.float32)
    one_step = recipe_for(training={"lr": 0.1, "batch_size": 200, "max_grad_norm": 1e-9})
    delta = train(one_step, start_of(one_step), blobs(200), added=added).delta
    np.testing.assert_allclose(delta, -0.1, rtol=1e-4, atol=1e-6)
