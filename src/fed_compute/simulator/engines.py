"""What trains a simulation's clients, and by which path."""

from fed_compute.client.models import build_model
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.simulator.cohort import Plan, TrainingPath
from fed_compute.simulator.cohort.plan import stack_size
from fed_compute.simulator.cohort.training import recipe_of, why_not

AUTO = "auto"


def plan_named(text: str | None, job: JobSpec, schema: ParameterSchema) -> Plan | None:
    """Return the plan of a text; `auto` is None, which lets the engine measure, and no text is `steady_plan`.

    Raises:
        CohortUnsupported: if it is no plan.
    """
    match text:
        case None:
            return steady_plan(job, schema)
        case "auto":
            return None
        case _:
            return Plan.parse(text)


def steady_plan(job: JobSpec, schema: ParameterSchema) -> Plan:
    """Return the plan that follows from the model alone, so that a run repeats byte for byte on any machine alike.

    What is measured to be fastest may differ from run to run, and each path rounds in its own way.

    Raises:
        ModelMismatch: if the job's model cannot be built.
    """
    module = build_model(recipe_of(job, schema))
    for path in (TrainingPath.STACKED, TrainingPath.LOOPED):
        if why_not(path, job, schema, module) is None:
            return Plan(path, stack_size(schema.num_parameters) if path is TrainingPath.STACKED else 1)
    return Plan(TrainingPath.SEQUENTIAL)
