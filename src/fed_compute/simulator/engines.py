"""What trains a simulation's clients, and by which path."""

from fed_compute.protocol.architectures import BUILT_IN
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.simulator.cohort import Plan, TrainingPath
from fed_compute.simulator.cohort.plan import stack_size
from fed_compute.simulator.cohort.stacked import STACKED_LAYERS


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

    What is measured to be fastest may differ from run to run, and each path rounds in its own way. A plug-in may do
    things that only the client's own trainer does as well, so it takes that one.
    """
    if job.model.name in STACKED_LAYERS:
        return Plan(TrainingPath.STACKED, stack_size(schema.num_parameters))
    return Plan(TrainingPath.LOOPED if job.model.name in BUILT_IN else TrainingPath.SEQUENTIAL)
