"""Models and data of one's own in simulations: by class, by name, and from installed packages."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fed_compute import register_dataset, register_model
from fed_compute.client.models import registry
from fed_compute.errors import ModelMismatch, ModelUnknown, NameReserved, SimulationImpossible
from fed_compute.simulator import Report, simulate
from fed_compute.simulator.cohort.origins import origin_of, why_only_here
from tests.unit.simulator import own_models
from tests.unit.simulator.cohort.jobs import install_plugins

JOB: dict[str, Any] = {
    "rounds": {"total": 4, "target_updates": 6, "min_updates": 2},
    "training": {"batch_size": 8, "local_epochs": 2},
    "evaluation": {"max_clients": 3},
}


@pytest.fixture(autouse=True)
def _forget_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def run(job: dict[str, Any] | None = None, **more: Any) -> Report:
    return simulate({**JOB, **(job or {})}, **{"clients": 8, "seed": 2, "processes": 1, **more})


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (own_models.Affine, "vmap:64"),
        (own_models.Filters, "looped"),
        (own_models.Noisy, "sequential"),
        (own_models.Normed, "sequential"),
    ],
    ids=["vmap", "looped", "chance", "buffers"],
)
def test_a_class_of_ones_own_learns_by_the_fastest_path_that_does_what_a_client_does(
    model: type[torch.nn.Module], path: str
) -> None:
    report = run(model=model)
    assert report.setup.plan == path
    assert report.setup.job.model.name == model.__name__
    assert report.accuracy is not None
    assert report.first.accuracy is not None
    assert report.accuracy > report.first.accuracy + 0.2
    assert report.rounds[-1].federated_clients == 3


def test_other_processes_import_it_and_any_number_of_them_gives_the_same_bytes() -> None:
    one, two = (run(model=own_models.Affine, processes=processes, plan="vmap:2") for processes in (1, 2))
    assert (one.csv(), one.model_digest) == (two.csv(), two.model_digest)
    again = run({"model": {"name": "Affine"}}, plan=one.setup.plan)
    assert again.model_digest == one.model_digest, "it is known by its name now"


def test_another_seed_gives_another_first_model() -> None:
    first = [
        run({"rounds": {**JOB["rounds"], "total": 1}}, model=own_models.Affine, seed=seed).first for seed in (1, 2)
    ]
    assert first[0] != first[1]


def test_a_class_takes_its_arguments() -> None:
    x, y = np.random.default_rng(0).random((200, 64)), np.arange(200) % 3
    report = run(model=own_models.Affine, model_args={"width": 3}, data=(x, y))
    assert report.setup.job.model.args == {"width": 3}
    assert report.model.size == 3 * 65
    with pytest.raises(ModelMismatch, match=r"refused the recipe's arguments.*widht"):
        run(model=own_models.Affine, model_args={"widht": 3})


@pytest.mark.usefixtures("installed")
def test_a_model_of_an_installed_package_is_named_in_the_job() -> None:
    one, two = (run({"model": {"name": "affine"}}, processes=processes, plan="sequential") for processes in (1, 2))
    assert (one.csv(), one.model_digest) == (two.csv(), two.model_digest)
    with pytest.raises(ModelUnknown, match="did you mean 'affine'"):
        run({"model": {"name": "afine"}})


def test_data_of_ones_own_are_shared_out() -> None:
    @register_dataset("threes")
    def load(path: str | None, options: object) -> tuple[Any, Any]:
        return np.random.default_rng(0).random((90, 64)), np.arange(90) % 3

    assert run(data="threes").setup.data == "threes"


def test_a_model_that_no_other_process_can_import_is_trained_in_this_one_and_refused_where_others_are_wanted() -> None:
    @register_model("here")
    class Here(own_models.Affine):
        pass

    assert run({"model": {"name": "here"}}, processes=None).rounds[-1].num_updates == 6
    with pytest.raises(SimulationImpossible, match=r"processes = 2 needs .*'here' is none.*move it to the top"):
        run({"model": {"name": "here"}}, processes=2)
    with pytest.raises(SimulationImpossible, match="engine 'ray' needs"):
        run({"model": {"name": "here"}}, engine="ray")


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (own_models.Affine, None),
        (partial(own_models.Affine, width=3), "made by a partial"),
        (type("Moved", (own_models.Affine,), {"__module__": "tests.unit.simulator.own_models"}), "not what one finds"),
        (type("Lost", (own_models.Affine,), {"__module__": "no.such.module"}), "not what one finds"),
        (type("Script", (own_models.Affine,), {"__module__": "__main__"}), "in the program that runs"),
    ],
    ids=["importable", "partial", "not the same", "no module", "main program"],
)
def test_what_others_cannot_import_is_said_with_its_reason(build: Any, said: str | None) -> None:
    register_model("mine")(build)
    found = why_only_here("mine")
    assert (found is None) if said is None else (found is not None and said in found)
    assert said is not None or origin_of("mine") == "tests.unit.simulator.own_models:Affine"
    assert why_only_here("linear") is origin_of("linear") is None


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"model": own_models.Affine()}, SimulationImpossible, "model is a Affine, wanted a class"),
        ({"model": "affine"}, SimulationImpossible, "model is 'affine', wanted a class"),
        ({"model_args": {"width": 3}}, SimulationImpossible, "model_args belong to model"),
        ({"model": own_models.Affine, "model_args": {"width": np.ones(3)}}, SimulationImpossible, "model_args are"),
        ({"model": type("linear", (own_models.Affine,), {})}, NameReserved, "linear"),
    ],
)
def test_what_is_no_model_is_refused(given: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        run(**given)
