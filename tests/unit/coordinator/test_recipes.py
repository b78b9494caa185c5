"""What a client is told to do."""

import pytest

from fed_compute.coordinator.recipes import recipe_of, schema_of, spec_of, task_seed
from fed_compute.ids import ClientId
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, tiny_job

SECTIONS = {
    "training": {"lr": 0.25, "batch_size": 7, "optimizer": "adam", "loss": "mse"},
    "wire": {"encoding": "topk", "compression": "zstd", "topk_fraction": 0.5},
    "privacy": {"max_update_norm": 3.5},
    "evaluation": {"every_rounds": 0, "holdout_fraction": 0.3},
}


def test_a_stored_job_means_what_its_file_said(open_stand: OpenStand) -> None:
    stand = open_stand()
    spec = tiny_job(sections=SECTIONS, total=3)
    job = stand.create(spec)
    assert spec_of(job) == spec
    assert schema_of(job) == spec.schema_of_model()


def test_a_recipe_holds_everything_that_a_client_needs(open_stand: OpenStand) -> None:
    stand = open_stand()
    spec = tiny_job(sections=SECTIONS)
    stand.create(spec)
    stand.join("anna")
    found = stand.lease("anna")
    recipe = recipe_of(found.job, found.task, round_number=found.round.number, max_norm=3.5, max_num_samples=99)
    assert (recipe.model, recipe.model_args) == ("linear", {"input_dim": 2, "output_dim": 1})
    assert recipe.parameters == [("output.weight", [1, 2]), ("output.bias", [1])]
    assert recipe.schema_digest == spec.schema_of_model().digest()
    assert recipe.training == spec.training
    assert (recipe.encoding, recipe.compression, recipe.topk_fraction) == ("topk", "zstd", 0.5)
    assert (recipe.max_update_norm, recipe.max_num_samples, recipe.holdout_fraction) == (3.5, 99, 0.3)


def test_the_same_participants_get_the_same_seeds_again() -> None:
    spec, anna = tiny_job(), ClientId("anna")
    assert task_seed(spec, round_number=1, client_id=anna) == task_seed(spec, round_number=1, client_id=anna)


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_rounds_clients_and_jobs_draw_from_different_seeds(seed: int) -> None:
    spec = tiny_job(sections={"seed": seed})
    seeds = {task_seed(spec, round_number=n, client_id=ClientId(name)) for n in (1, 2, 11) for name in ("anna", "1")}
    other = task_seed(tiny_job(sections={"seed": 5}), round_number=1, client_id=ClientId("anna"))
    assert len(seeds | {other}) == 7
    assert all(0 <= value < 2**63 for value in seeds)


def test_a_repeated_round_trains_with_the_same_seed(stand: Stand) -> None:
    """An abandoned round keeps its number, and so the run stays the one that the job's seed names."""
    stand.join("anna")
    seeds = []
    for _ in range(2):
        found = stand.lease("anna")
        recipe = recipe_of(found.job, found.task, round_number=found.round.number, max_norm=1.0, max_num_samples=1)
        seeds.append(recipe.seed)
        stand.clock.advance(101)
        stand.work()
    assert [round_.number for round_ in stand.rounds()] == [1, 1, 1]
    assert seeds[0] == seeds[1]
