"""Without being told how to train, a simulation trains by a path that follows from the model alone."""

import pytest

from fed_compute.errors import CohortUnsupported
from fed_compute.protocol.job import JobSpec, parse_job
from fed_compute.protocol.schema import Parameter, ParameterSchema
from fed_compute.simulator.cohort import Plan
from fed_compute.simulator.cohort.plan import STEADY
from fed_compute.simulator.engines import plan_named

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
