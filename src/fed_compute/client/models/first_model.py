"""The first version of a plug-in model: the coordinator has no PyTorch to make one with."""

import torch

from fed_compute.client.models.registry import build_plugin
from fed_compute.client.models.vectors import named_tensors, to_vector
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.models import encode_model
from fed_compute.protocol.schema import Parameter, ParameterSchema


def first_model(spec: JobSpec) -> tuple[ParameterSchema, bytes]:
    """Build a job's plug-in model and return its parameters and the model file of version v1.

    The values are those that the module starts with after `torch.manual_seed(spec.seed)`; PyTorch's own random
    state is left as it was.

    Raises:
        ModelUnknown: if the model is not registered in this process, nor brought by an installed package.
        ModelMismatch: if it refuses the job's arguments, or makes no module.
        JobFileInvalid: if it has no parameters, or some that cannot travel.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        module = build_plugin(spec.model.name, spec.model.args)
    tensors = named_tensors(module)
    schema = ParameterSchema(tuple(Parameter(name, tuple(tensor.shape)) for name, tensor in tensors.items()))
    return schema, encode_model(to_vector(module, schema), schema)
