"""Models of this machine: torch modules by registry name, and their flat parameter vectors."""

from fed_compute.client.models.registry import MODELS_GROUP, build_model, model_names, register_model
from fed_compute.client.models.vectors import load_vector, named_tensors, to_vector

__all__ = [
    "MODELS_GROUP",
    "build_model",
    "load_vector",
    "model_names",
    "named_tensors",
    "register_model",
    "to_vector",
]
