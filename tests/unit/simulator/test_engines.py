"""Where a simulation trains is checked before anything is; by which path follows from the model alone."""

import sys

import pytest

from fed_compute.errors import CohortUnsupported, ExtraMissing, SimulationImpossible
from fed_compute.protocol.job import JobSpec, parse_job
from fed_compute.protocol.schema import Parameter, ParameterSchema
from fed_compute.simulator.cohort import Plan
from fed_compute.simulator.cohort.plan import STEADY
from fed_compute.simulator.engines import EngineChoice, plan_named

MLP = {"name": "simple_mlp", "args": {"input_dim": 784, "hidden": [128, 64], "output_dim": 10}}
CNN = {"name": "small_cnn", "args": {"height": 28, "width": 28, "output_dim": 10}}


def job_of(model: dict[str, object]) -> tuple[JobSpec, ParameterSchema]:
    job = parse_job({"model": model})
    return job, job.schema_of_model()


@pytest.mark.parametrize(("model", "plan"), [(MLP, "stacked:10"), (CNN, "looped")], ids=["mlp", "cnn"])
def test_a_built_in_model_has_its_path(model: dict[str, object], plan: str) -> None:
    assert str(plan_named(None, *job_of(model))) == plan


def test_of_a_plug_in_the_engine_finds_out_which_path_does_what_a_client_does() -> None:
    job = parse_job({"model": {"name": "somebodys_model"}})
    assert plan_named(None, job, ParameterSchema((Parameter("w", (3,)),))) == STEADY


def test_a_named_path_is_taken_and_auto_is_left_to_measurement() -> None:
    assert plan_named("stacked:3", *job_of(MLP)) == Plan.parse("stacked:3")
    assert plan_named("auto", *job_of(MLP)) is None
    with pytest.raises(CohortUnsupported):
        plan_named("fast", *job_of(MLP))


@pytest.mark.parametrize("address", ["auto", "10.0.0.7:6379", "head.example:6379", "[::1]:6379", "ray://head:10001"])
def test_each_form_of_an_address_is_taken(address: str) -> None:
    assert EngineChoice.parse("ray", address) == EngineChoice("ray", address)


@pytest.mark.parametrize(
    ("engine", "address", "said"),
    [
        ("rya", None, r"engine 'rya' is unknown, did you mean 'ray'\?"),
        ("locla", None, r"did you mean 'local'\?"),
        ("dask", None, r"engine 'dask' is unknown; wanted local or ray"),
        ("local", "auto", r"engine 'local' has none; add engine 'ray'"),
        ("ray", "atuo", r"did you mean 'auto'\?"),
        ("ray", "head", r"did you mean 'head:6379'\?"),
        ("ray", "head:", r"did you mean 'head:6379'\?"),
        ("ray", "head:70000", r"did you mean 'head:6379'\?"),
        ("ray", "ray://head", r"did you mean 'ray://head:10001'\?"),
        ("ray", "rya://head:10001", r"did you mean 'ray://head:10001'\?"),
        ("ray", "http://head:8265/", r"did you mean 'ray://head:10001'\?"),
        ("ray", "", r"did you mean 'host:6379'\?"),
    ],
)
def test_a_wrong_engine_or_address_names_the_nearest(engine: str, address: str | None, said: str) -> None:
    with pytest.raises(SimulationImpossible, match=said):
        EngineChoice.parse(engine, address)


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("fed_compute.simulator.ray", raising=False)
    for name in [name for name in sys.modules if name.startswith("fed_compute.simulator.ray")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtraMissing, match=r"engine ray needs an optional part: pip install 'fed-compute\[ray\]'"):
        EngineChoice.parse("ray").open((), model="linear", processes=None, plan=None)


@pytest.mark.parametrize("processes", [0, -1])
def test_no_workers_at_all_are_refused_before_a_cluster_is_asked(processes: int) -> None:
    with pytest.raises(SimulationImpossible, match=f"{processes} workers cannot train"):
        EngineChoice.parse("ray").open((), model="linear", processes=processes, plan=None)
