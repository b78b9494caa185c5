"""The model of a simulation: the job's by name, or a class that is given."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from fed_compute.client.models.conversion import start_of_plugin
from fed_compute.client.models.registry import register_model
from fed_compute.errors import SimulationImpossible
from fed_compute.protocol.architectures import BUILT_IN
from fed_compute.protocol.job import JobSpec, parse_job
from fed_compute.protocol.models import encode_model
from fed_compute.protocol.schema import ParameterSchema

Model = Callable[..., nn.Module]
"""A class, or a function that returns a new module."""


def with_model(job: JobSpec, model: Model | None, arguments: Mapping[str, Any] | None) -> JobSpec:
    """Return the job with another model, which this process knows by its own name from now on.

    Raises:
        SimulationImpossible: if it is no class or function, or its arguments are no plain data or come without it.
        NameReserved: if a built-in model has the name.
    """
    if model is None:
        if arguments is not None:
            raise SimulationImpossible("model_args belong to model, which is not given; those of a job are model.args")
        return job
    name = _name_of(model)
    given = dict(arguments or {})
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SimulationImpossible(f"model_args are written into the job, and cannot be: {error}") from error
    register_model(name)(model)
    return parse_job({**job.model_dump(), "model": {"name": name, "args": given}})


def _name_of(model: object) -> str:
    name = getattr(model, "__name__", None)
    if isinstance(model, nn.Module) or name is None or not callable(model):
        found = repr(model) if isinstance(model, str) else f"a {type(model).__name__}"
        raise SimulationImpossible(
            f"model is {found}, wanted a class or function that makes a new torch module; a model of an installed "
            "package is named in the job, [model] name"
        )
    return str(name)


def start_of(job: JobSpec) -> tuple[ParameterSchema, bytes | None]:
    """Return the model's parameters, and for a plug-in the file of its first values, which follow from the job's seed.

    Raises:
        JobFileInvalid: if a built-in model does not take its arguments.
        ModelUnknown: if no such model is registered or installed, naming the nearest one.
        ModelMismatch: if a plug-in refuses its arguments.
    """
    if job.model.name in BUILT_IN:
        return job.schema_of_model(), None
    schema, vector = start_of_plugin(job.model.name, job.model.args, seed=job.seed)
    return schema, encode_model(vector, schema)
