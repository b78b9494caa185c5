"""Every combination is checked before the first one runs."""

from pathlib import Path
from typing import Any

import pytest

from fed_compute.errors import SweepInvalid
from fed_compute.protocol.job import default_job
from fed_compute.simulator.population.description import parse_fleet
from fed_compute.simulator.sweeps.design import Base, Design, Run, describe
from fed_compute.simulator.sweeps.grid import Grid

PC = {"name": "pc", "speed_spread": 3.0}


def design(**grid: Any) -> Design:
    base = Base(default_job(), 20, "digits", "stable", 0, "iid", None, 1, None)
    return Design.of(base, Grid.of(grid))


def run(**grid: Any) -> Run:
    (only,) = design(**grid).runs
    return only


def test_each_combination_is_a_whole_job_with_one_seed() -> None:
    runs = design(lr=[0.01, 0.2], rule=["fedavg", "robust"], **{"rounds.min_updates": 5}).runs
    assert [(one.job.training.lr, one.job.aggregation.rule) for one in runs] == [
        (0.01, "fedavg"), (0.01, "robust"), (0.2, "fedavg"), (0.2, "robust"),
    ]  # fmt: skip
    assert {(one.seed, one.job.seed, one.job.rounds.min_updates) for one in runs} == {(0, 0, 5)}
    assert [one.folder for one in runs][:2] == ["001-lr=0.01,rule=fedavg", "002-lr=0.01,rule=robust"]


def test_arguments_of_the_simulation_and_of_the_model_are_keys_too() -> None:
    given = {"clients": 30, "split": "shards:2", "samples_per_client": 16, "seed": 7, "data": "breast-cancer"}
    found = run(**given, **{"model.args.hidden_dim": 8, "model.args.input_dim": 30})
    assert {name: getattr(found, name) for name in given} == given
    assert found.job.seed == 7
    assert found.job.model.args == {"input_dim": 30, "hidden_dim": 8, "output_dim": 10}


def test_none_takes_a_number_away_where_a_job_needs_none() -> None:
    assert run(max_update_norm="none").job.privacy.max_update_norm is None
    assert run(compression="none").job.wire.compression == "none"
    assert run(samples_per_client="none").samples_per_client is None


def test_an_attack_replaces_those_who_lie_in_the_fleet() -> None:
    honest, liars = design(behavior="hostile", attack=["none", "alie"], attackers=0.1).runs
    assert honest.fleet.attacker == []
    assert [(one.attack, one.share) for one in liars.fleet.attacker] == [("alie", 0.1)]
    assert honest.fleet.device == liars.fleet.device


def test_a_fleet_may_be_a_preset_a_file_or_plain_data(tmp_path: Path) -> None:
    file = tmp_path / "campus.toml"
    file.write_text('name = "campus"\n[[device]]\nname = "pc"\n')
    fleet = {"name": "plain", "device": [PC]}
    runs = design(behavior=["volunteer", file, fleet, parse_fleet({**fleet, "name": "made"})]).runs
    assert [one.fleet.name for one in runs][1:] == ["campus", "plain", "made"]
    assert [describe(one.values) for one in runs][1:] == ["behavior=campus", "behavior=plain", "behavior=made"]


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"rule": ["fedavg", "robst"]}, "did you mean 'robust'"),
        ({"rule": ["fedavg", "krum"]}, "rule=krum: job: rule 'krum' with f = 0.2 protects nobody"),
        ({"lr": [0.1, "high"]}, "lr=high: training.lr: Input should be a valid number, found 'high'"),
        ({"lr": [0.1, -1.0]}, "greater than 0"),
        ({"clients": ["many"]}, "clients is many, wanted a whole number"),
        ({"clients": [0]}, "clients is 0"),
        ({"seed": [True]}, "seed is true, wanted a whole number"),
        ({"split": ["dirichlt:1"]}, "dirichlet:0.3"),
        ({"behavior": ["stable", "volunter"]}, "did you mean 'volunteer'"),
        ({"behavior": [3]}, "behavior is 3, wanted a preset"),
        ({"data": ["digts"]}, "did you mean 'digits'"),
        ({"attack": ["sign_flop"]}, "did you mean 'sign_flip'"),
        ({"attackers": [0.1]}, "give attack as well"),
        ({"plan": ["staked"]}, "no training path"),
        ({"seed": [-1]}, "seed is -1"),
    ],
)
def test_a_combination_that_cannot_be_is_told_with_the_reason(grid: dict[str, Any], said: str) -> None:
    with pytest.raises(SweepInvalid) as caught:
        design(**grid)
    assert said in caught.value.message
    assert f"of {len(next(iter(grid.values())))} combinations cannot be simulated" in caught.value.message


def test_each_reason_is_told_once_and_with_it_what_to_add() -> None:
    with pytest.raises(SweepInvalid) as caught:
        design(lr=[0.1, 0.2], rule=["fedavg", "robust"])
    told, reason, advice = caught.value.message.splitlines()
    assert told == "2 of 4 combinations cannot be simulated:"
    assert reason.startswith("lr=0.1, rule=robust: job: rule 'robust'")
    assert advice.startswith("a key with one value, as rounds.min_updates=5")


def test_a_run_is_the_same_in_another_process() -> None:
    given = run(lr=0.05, behavior="hostile", split="dirichlet:0.3")
    there = Run.from_json(given.to_json())
    assert (there.job, there.fleet, there.split, there.seed) == (given.job, given.fleet, given.split, given.seed)
