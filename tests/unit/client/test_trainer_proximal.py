"""FedProx: a pull back to the global model."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from fed_compute.client.trainer import set_threads, train
from fed_compute.client.trainer_proximal import ProximalTerm
from fed_compute.learning.aggregation import accumulated_steps
from tests.unit.client.recipes import blobs, recipe_for, start_of

LINEAR = {"input_dim": 64, "output_dim": 10}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


def cross_entropy_gradient(vector: npt.NDArray[np.float64], x: Any, y: Any) -> npt.NDArray[np.float64]:
    """Return the gradient of a linear classifier over a whole batch, by hand."""
    logits = x @ vector[:640].reshape(10, 64).T + vector[640:]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(y)), y] -= 1
    return np.concatenate([(shares.T @ x / len(y)).ravel(), shares.mean(axis=0)])


def test_each_step_s_gradient_gets_mu_times_the_way_from_the_global_model() -> None:
    data, lr, mu = blobs(40), 0.5, 1.5
    training = {"lr": lr, "batch_size": 40, "local_epochs": 3, "proximal_mu": mu}
    recipe = recipe_for("linear", LINEAR, training=training)
    vector = start_of(recipe)
    start = vector.astype(np.float64)
    by_hand = start.copy()
    for _ in range(3):
        by_hand -= lr * (cross_entropy_gradient(by_hand, data.x, data.y) + mu * (by_hand - start))
    np.testing.assert_allclose(train(recipe, vector, data).delta, by_hand - start, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_stronger_the_pull_the_nearer_the_client_stays_to_the_global_model(optimizer: str) -> None:
    """Under Adam too, whose steps do not grow with the gradient."""
    ways = []
    for mu in (0.0, 0.1, 1.0, 10.0):
        training = {"optimizer": optimizer, "lr": 0.05, "local_epochs": 20, "proximal_mu": mu}
        recipe = recipe_for(training=training)
        ways.append(float(np.linalg.norm(train(recipe, start_of(recipe), blobs()).delta)))
    assert ways == sorted(ways, reverse=True)
    assert ways[-1] < ways[0] / 4


def test_a_first_step_feels_no_pull_and_without_one_nothing_changes() -> None:
    one_step = {"batch_size": 200, "local_epochs": 1}
    plain, pulled = (recipe_for(training=one_step | pull) for pull in ({}, {"proximal_mu": 5.0}))
    vector, data = start_of(plain), blobs(200)
    assert train(pulled, vector, data).delta.tobytes() == train(plain, vector, data).delta.tobytes()
    many, zero = (recipe_for(training={"local_epochs": 3} | pull) for pull in ({}, {"proximal_mu": 0.0}))
    assert train(zero, vector, data).delta.tobytes() == train(many, vector, data).delta.tobytes()
    assert zero.model_dump_json() == many.model_dump_json()


@pytest.mark.parametrize(("momentum", "mu"), [(0.0, 0.0), (0.9, 0.0), (0.0, 300.0), (0.25, 200.0)])
def test_steps_add_up_to_what_the_coordinator_takes_them_for(momentum: float, mu: float) -> None:
    """With a rate so small that the gradient hardly changes, twenty steps go that many times as far as one."""
    one = {"lr": 1e-3, "batch_size": 40, "momentum": momentum, "proximal_mu": mu}
    first, many = (recipe_for("linear", LINEAR, training={**one, "local_epochs": epochs}) for epochs in (1, 20))
    vector, data = start_of(first), blobs(40)
    times = accumulated_steps(many.training.num_steps(40), momentum=momentum, pull=1e-3 * mu)
    np.testing.assert_allclose(
        train(many, vector, data).delta, times * train(first, vector, data).delta, rtol=0.05, atol=2e-5
    )


def test_the_limit_on_the_gradient_holds_for_the_pull_too() -> None:
    training = {"lr": 1.0, "batch_size": 200, "local_epochs": 5, "max_grad_norm": 0.01, "proximal_mu": 1.9}
    recipe = recipe_for(training=training)
    assert np.linalg.norm(train(recipe, start_of(recipe), blobs()).delta) <= 5 * 0.01 * 1.001


def test_sparse_gradients_are_pulled_and_missing_ones_stay_missing() -> None:
    table, unused = nn.Embedding(3, 2, sparse=True), nn.Parameter(torch.ones(2))
    nn.init.zeros_(table.weight)
    term = ProximalTerm([table.weight, unused], 2.0)
    with torch.no_grad():
        table.weight += 1.0
        unused += 1.0
    table(torch.tensor([1])).sum().backward()
    term.add_gradient()
    assert table.weight.grad is not None
    assert table.weight.grad.tolist() == [[2.0, 2.0], [3.0, 3.0], [2.0, 2.0]]
    assert unused.grad is None
