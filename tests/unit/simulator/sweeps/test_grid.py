"""Keys by their short names, values as they are written on a command line."""

from typing import Any

import numpy as np
import pytest

from fed_compute.errors import SweepInvalid
from fed_compute.simulator.sweeps.grid import Grid, parse_words, resolve, written


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("lr", "training.lr"),
        ("training.lr", "training.lr"),
        ("learning_rate", "training.lr"),
        ("rule", "aggregation.rule"),
        ("batch_size", "training.batch_size"),
        ("epochs", "training.local_epochs"),
        ("clients_per_round", "rounds.target_updates"),
        ("rounds", "rounds.total"),
        ("mode", "rounds.mode"),
        ("model.args.hidden_dim", "model.args.hidden_dim"),
        ("split", "split"),
        ("behavior", "behavior"),
        ("seed", "seed"),
    ],
)
def test_a_key_is_known_by_its_path_by_its_end_and_by_an_alias(key: str, name: str) -> None:
    assert resolve(key) == name


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("lrr", "did you mean 'training.lr'"),
        ("training.learning_rate", "did you mean 'training.lr'"),
        ("aggregation.rul", "did you mean 'aggregation.rule'"),
        ("batchsize", "did you mean 'training.batch_size'"),
        ("behaviour", "did you mean 'behavior'"),
        ("clinets", "did you mean 'clients'"),
        ("epoch", "did you mean 'training.local_epochs'"),
        ("xyzzy", "docs/reference/job-file.md"),
        ("momentum", "training.momentum or aggregation.momentum"),
        ("training", "unknown key"),
        ("description", "unknown key"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(key: str, said: str) -> None:
    with pytest.raises(SweepInvalid, match=said):
        resolve(key)


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("lr=0.01,.1,1e-3,1", [0.01, 0.1, 0.001, 1]),
        ("rule=fedavg,robust", ["fedavg", "robust"]),
        ("split=iid,dirichlet:0.3", ["iid", "dirichlet:0.3"]),
        ("damp_stale=true,false", [True, False]),
        ('pre=[],["nnm"],["bucketing","nnm"]', [[], ["nnm"], ["bucketing", "nnm"]]),
        ('data="digits,part=1/2",digits', ["digits,part=1/2", "digits"]),
        ("data=npz:a=b.npz", ["npz:a=b.npz"]),
        ("max_update_norm=none, 10", ["none", 10]),
    ],
)
def test_values_are_read_as_in_a_job_file_or_as_bare_words_and_written_back(word: str, values: list[Any]) -> None:
    key = word.partition("=")[0]
    read = parse_words([word])
    assert read == {key: values}
    assert [type(value) for value in read[key]] == [type(value) for value in values]
    assert parse_words([f"{key}={','.join(written(value) for value in values)}"]) == read


@pytest.mark.parametrize("word", ["lr", "lr=", "=1", "lr=1,,2", "lr=1,"])
def test_a_word_without_values_is_told_how_it_should_look(word: str) -> None:
    with pytest.raises(SweepInvalid, match=r"KEY=VALUE\[,VALUE…\], such as lr=0\.01,0\.1"):
        parse_words([word])


def test_a_grid_is_every_combination_and_the_last_key_changes_fastest() -> None:
    grid = Grid.of({"lr": [0.1, 0.2], "rule": "fedavg", "seed": range(2)})
    assert len(grid) == 4
    assert [tuple(values.values()) for values in grid] == [
        (0.1, "fedavg", 0), (0.1, "fedavg", 1), (0.2, "fedavg", 0), (0.2, "fedavg", 1),
    ]  # fmt: skip
    assert grid.varied == ("lr",)


def test_values_may_come_as_arrays() -> None:
    (values,) = Grid.of({"lr": np.array([0.5, 0.25])}).axes.values()
    assert values == (0.5, 0.25)
    assert [type(value) for value in values] == [float, float]


def test_settings_under_one_name_are_one_value_of_a_key_whose_name_is_free() -> None:
    word = 'algorithm={FedAvg={},FedProx={mu=0.1},"FedAdam, slow"={server_optimizer="adam",server_lr=0.01}}'
    grid = Grid.of({**parse_words([word]), "lr": [0.1]})
    assert [value.name for value in grid.axes["algorithm"]] == ["FedAvg", "FedProx", "FedAdam, slow"]
    assert [grid.settings(values) for values in grid] == [
        {"training.lr": 0.1},
        {"training.lr": 0.1, "training.proximal_mu": 0.1},
        {"training.lr": 0.1, "aggregation.server_optimizer": "adam", "aggregation.server_lr": 0.01},
    ]
    again = Grid.of(parse_words(grid.words()))
    assert (again.axes, again.names) == (grid.axes, grid.names)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "without a key"),
        ({"algorithm": {"FedProx": 0.1}}, "no settings for 'FedProx'"),
        ({"algorithm": {"FedProx": {"muu": 0.1}}}, "did you mean 'training.proximal_mu'"),
        ({"lr": []}, "no value"),
        ({"lr": [0.1, 0.1]}, "a value twice"),
        ({"lr": [0.1], "training.lr": [0.2]}, "the same key"),
        ({"lr": [0.001 * i for i in range(1, 41)], "seed": range(30)}, "1,200 combinations"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SweepInvalid, match=said):
        Grid.of(given)


def test_a_key_is_set_in_one_place() -> None:
    grid = Grid.of({"algorithm": {"FedProx": {"mu": 0.1}}, "training.proximal_mu": [0.2]})
    with pytest.raises(SweepInvalid, match=r"training\.proximal_mu is set twice"):
        grid.settings(next(iter(grid)))


def test_a_key_may_not_be_there_twice() -> None:
    with pytest.raises(SweepInvalid, match="there twice"):
        parse_words(["lr=1", "lr=2"])
