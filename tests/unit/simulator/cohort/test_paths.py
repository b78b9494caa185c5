"""Whatever path trains a cohort, each client gets what the client's own trainer would have given it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_compute.client.datasets import Dataset
from fed_compute.protocol.job import JobSpec
from fed_compute.simulator.cohort import CohortEngine, CohortResult, Plan, Shard
from tests.unit.simulator.cohort.jobs import (
    CNN,
    DIGITS,
    LINEAR,
    MLP,
    TARGETS,
    TRANSFORMER,
    by_the_trainer,
    job_for,
    shards_of,
    start_of,
)

UNEVEN = (20, 3, 8, 1, 17, 9, 16)
EVERY_PATH = [
    (MLP, "stacked:3"),
    (LINEAR, "stacked:4"),
    (CNN, "stacked:3"),
    (MLP, "vmap:3"),
    (MLP, "looped"),
    (CNN, "vmap:2"),
    (CNN, "looped"),
    (TRANSFORMER, "vmap:3"),
    (MLP, "sequential"),
]
RICH = {"momentum": 0.5, "proximal_mu": 0.2, "max_grad_norm": 0.5, "weight_decay": 0.02, "local_epochs": 2}
EVERY_TRAINING: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.05, "local_epochs": 3},
    {"momentum": 0.9, "weight_decay": 0.01},
    {"proximal_mu": 0.5, "local_epochs": 2},
    {"max_grad_norm": 0.3},
    RICH,
    {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.01, "local_epochs": 2},
    {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1, "max_grad_norm": 1.0},
]


def assert_as_the_trainer(
    found: CohortResult, job: JobSpec, shards: list[Shard], seeds: list[int], **more: Any
) -> None:
    """Compare with the trainer, to 1e-5.

    Adam divides by the size of each gradient, so one that is nothing but rounding may go either way by all of lr;
    of its values 99 in 100 have to agree, to a hundredth of lr.
    """
    wanted = by_the_trainer(job, start_of(job), shards, seeds, **more)
    deltas = np.stack([one.delta for one in wanted])
    np.testing.assert_allclose(found.losses, [one.loss for one in wanted], rtol=1e-5, atol=1e-5)
    if job.training.optimizer == "sgd":
        np.testing.assert_allclose(found.deltas, deltas, rtol=0, atol=1e-5)
    else:
        assert np.mean(np.abs(found.deltas - deltas) <= job.training.lr / 100) >= 0.99


def trained(plan: str, job: JobSpec, shards: list[Shard], seeds: list[int], **more: Any) -> CohortResult:
    with CohortEngine([DIGITS, TARGETS], processes=1, plan=Plan.parse(plan)) as engine:
        return engine.train(start_of(job), shards, job, seeds, **more)


@pytest.mark.parametrize("training", EVERY_TRAINING, ids=str)
@pytest.mark.parametrize(("model", "plan"), [(MLP, "stacked:3"), (CNN, "looped")], ids=["stacked", "looped"])
def test_every_optimiser_gives_what_the_trainer_gives(
    model: dict[str, Any], plan: str, training: dict[str, Any]
) -> None:
    job, shards, seeds = job_for(model, **training), shards_of(UNEVEN), list(range(len(UNEVEN)))
    assert_as_the_trainer(trained(plan, job, shards, seeds), job, shards, seeds)


@pytest.mark.parametrize("training", [{}, RICH, {"optimizer": "adam", "lr": 0.01}], ids=["plain", "rich", "adam"])
@pytest.mark.parametrize(("model", "plan"), EVERY_PATH, ids=lambda value: value if isinstance(value, str) else "")
def test_every_path_gives_what_the_trainer_gives(model: dict[str, Any], plan: str, training: dict[str, Any]) -> None:
    job, shards, seeds = job_for(model, **training), shards_of(UNEVEN), list(range(len(UNEVEN)))
    assert_as_the_trainer(trained(plan, job, shards, seeds), job, shards, seeds)


@pytest.mark.parametrize(("model", "plan"), EVERY_PATH, ids=lambda value: value if isinstance(value, str) else "")
def test_squared_errors_give_what_the_trainer_gives(model: dict[str, Any], plan: str) -> None:
    job = job_for(model, loss="mse", momentum=0.5)
    shards, seeds = shards_of(UNEVEN, TARGETS), list(range(len(UNEVEN)))
    assert_as_the_trainer(trained(plan, job, shards, seeds), job, shards, seeds)


@pytest.mark.parametrize("plan", ["stacked:3", "vmap:3", "looped", "sequential"])
def test_what_is_added_to_gradients_is_added_as_the_trainer_does(plan: str) -> None:
    job, shards, seeds = job_for(max_grad_norm=0.5), shards_of(UNEVEN), list(range(len(UNEVEN)))
    stream = np.random.Generator(np.random.PCG64(5))
    added = stream.normal(size=(len(shards), len(start_of(job)))).astype(np.float32) * np.float32(0.01)
    found = trained(plan, job, shards, seeds, added=added)
    assert_as_the_trainer(found, job, shards, seeds, added=list(added))


@settings(max_examples=15)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    batch_size=st.integers(1, 24),
    epochs=st.integers(1, 3),
    at_once=st.integers(1, 12),
    momentum=st.sampled_from([0.0, 0.9]),
    seed=st.integers(0, 2**63 - 1),
)
def test_stacks_of_any_sizes_give_what_the_trainer_gives(
    sizes: list[int], batch_size: int, epochs: int, at_once: int, momentum: float, seed: int
) -> None:
    """Clients of one stack end at different steps, with batches of different lengths; none may touch another."""
    job = job_for(batch_size=batch_size, local_epochs=epochs, momentum=momentum)
    shards, seeds = shards_of(sizes), [(seed + client) % 2**63 for client in range(len(sizes))]
    assert_as_the_trainer(trained(f"stacked:{at_once}", job, shards, seeds), job, shards, seeds)


@pytest.mark.parametrize("plan", ["stacked:4", "looped"])
def test_clients_of_several_data_sets_train_in_one_call(plan: str) -> None:
    """A poisoned shard has labels of its own; it must change no other client."""
    flipped = [Dataset(DIGITS.x[:20], 9 - DIGITS.y[:20], "flipped"), Dataset(DIGITS.x[5:15], 9 - DIGITS.y[5:15], "too")]
    shards = [*shards_of((16, 9)), Shard.whole(flipped[0]), *shards_of((16, 3)), Shard.whole(flipped[1])]
    job, seeds = job_for(), list(range(6))
    assert_as_the_trainer(trained(plan, job, shards, seeds), job, shards, seeds)


@pytest.mark.parametrize("plan", ["stacked:4", "vmap:4", "looped", "sequential"])
def test_a_client_that_diverges_is_nan_and_spoils_nobody(plan: str) -> None:
    wild = Dataset(DIGITS.x[:16] * np.float32(1e30), DIGITS.y[:16], "wild")
    shards = [*shards_of((16, 16)), Shard.whole(wild), *shards_of((16,))]
    job = job_for(local_epochs=2)
    found = trained(plan, job, shards, [1, 2, 3, 4])
    assert np.isnan(found.losses[2])
    assert np.isnan(found.deltas[2]).all()
    sound = [0, 1, 3]
    kept = CohortResult(found.deltas[sound], found.losses[sound])
    assert_as_the_trainer(kept, job, [shards[client] for client in sound], [1, 2, 4])


def test_the_seed_of_a_client_decides_and_its_neighbours_do_not() -> None:
    job, shards = job_for(), shards_of((32,)) * 2
    apart, alike = trained("stacked:2", job, shards, [1, 2]), trained("stacked:2", job, shards, [2, 2])
    assert not np.array_equal(apart.deltas[0], apart.deltas[1])
    assert np.array_equal(alike.deltas[0], alike.deltas[1])
    assert np.array_equal(apart.deltas[1], alike.deltas[1])
