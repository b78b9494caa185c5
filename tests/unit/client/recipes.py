"""Recipes and data sets for the tests of the client."""

from typing import Any

import numpy as np

from fed_compute.client.datasets import Dataset
from fed_compute.protocol.architectures import built_in_schema
from fed_compute.protocol.job import TrainingSection
from fed_compute.protocol.messages import Recipe, TaskAnswer
from fed_compute.protocol.schema import ParameterSchema, Vector, draw_initial

DIGITS_ARGS = {"input_dim": 64, "hidden_dim": 32, "output_dim": 10}
EVERY_MODEL: list[tuple[str, dict[str, object]]] = [
    ("linear", {"input_dim": 64, "output_dim": 10}),
    ("simple_mlp", DIGITS_ARGS),
    ("simple_mlp", {"input_dim": 64, "hidden": [16, 8], "output_dim": 10}),
    ("small_cnn", {"channels": 1, "height": 8, "width": 8, "output_dim": 10}),
    ("tiny_transformer", {"sequence_length": 8, "token_dim": 8, "output_dim": 10}),
    ("tiny_transformer", {"sequence_length": 64, "vocabulary": 17, "output_dim": 10, "layers": 1}),
]


def recipe_for(
    model: str = "simple_mlp",
    args: dict[str, object] | None = None,
    *,
    schema: ParameterSchema | None = None,
    training: dict[str, Any] | None = None,
    **changes: Any,
) -> Recipe:
    """Return a recipe as a coordinator would send it; keyword arguments change single fields."""
    args = DIGITS_ARGS if args is None else args
    schema = schema or built_in_schema(model, args)
    fields: dict[str, Any] = {
        "model": model,
        "model_args": args,
        "schema_digest": schema.digest(),
        "parameters": [(parameter.name, list(parameter.shape)) for parameter in schema.parameters],
        "training": TrainingSection.model_validate(training or {}),
        "holdout_fraction": 0.2,
        "encoding": "f32",
        "compression": "none",
        "topk_fraction": 0.1,
        "max_update_norm": None,
        "seed": 7,
    }
    return Recipe.model_validate({**fields, **changes})


def task_for(recipe: Recipe, **changes: Any) -> TaskAnswer:
    """Return a task with this recipe."""
    fields: dict[str, Any] = {
        "round_id": 1,
        "model_version": "v1",
        "task": "train",
        "description": "Train local model for round 1",
        "task_id": "t_1",
        "job": "default",
        "model_digest": "0" * 64,
        "deadline": 1_700_000_060.0,
        "seconds_left": 60.0,
        "heartbeat_seconds": 30.0,
        "recipe": recipe,
    }
    return TaskAnswer.model_validate({**fields, **changes})


def start_of(recipe: Recipe) -> Vector:
    """Return the first global vector of a built-in model."""
    return draw_initial(built_in_schema(recipe.model, recipe.model_args), seed=0)


def blobs(count: int = 200, *, seed: int = 0) -> Dataset:
    """Return ten separable classes in 64 dimensions, for tests that need speed and not reality."""
    stream = np.random.Generator(np.random.PCG64(seed))
    y = np.arange(count) % 10
    x = stream.normal(size=(count, 64)) * 0.1
    x[np.arange(count), y] += 1.0
    return Dataset(x.astype(np.float32), y.astype(np.int64), "blobs")
