"""Jobs, shards and plug-in models for the tests of cohort training, and the client's trainer to compare with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fed_compute.client.datasets import Dataset
from fed_compute.client.trainer import TrainingResult, set_threads, train
from fed_compute.protocol.job import JobSpec, parse_job
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import Parameter, ParameterSchema, Vector, draw_initial
from fed_compute.simulator.cohort import Shard
from tests.unit.client.recipes import blobs

DIGITS = blobs(400)
TARGETS = Dataset(DIGITS.x, np.eye(10, dtype=np.float32)[DIGITS.y], "targets")
LINEAR = {"name": "linear", "args": {"input_dim": 64, "output_dim": 10}}
MLP = {"name": "simple_mlp", "args": {"input_dim": 64, "hidden": [24, 16], "output_dim": 10}}
CNN = {"name": "small_cnn", "args": {"height": 8, "width": 8, "output_dim": 10}}
TRANSFORMER = {"name": "tiny_transformer", "args": {"sequence_length": 8, "token_dim": 8, "output_dim": 10}}
PLUGINS = """
import torch
from torch.nn import functional as F
class Affine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.output = torch.nn.Linear(64, 10)
    def forward(self, inputs):
        return self.output(inputs.flatten(1))
class Chance(Affine):
    def forward(self, inputs):
        return F.dropout(super().forward(inputs), 0.5)
class Crowd(Affine):
    def forward(self, inputs):
        outputs = super().forward(inputs)
        return outputs - outputs.mean(dim=0)
class Branch(Affine):
    def forward(self, inputs):
        outputs = super().forward(inputs)
        return outputs if outputs.sum() > 0 else 2 * outputs
class Buffers(Affine):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(10)
    def forward(self, inputs):
        return self.norm(super().forward(inputs))
"""
AFFINE = [Parameter("output.weight", (10, 64), "uniform", 0.125), Parameter("output.bias", (10,), "uniform", 0.125)]
NORM = [
    Parameter("norm.weight", (10,), "ones"),
    Parameter("norm.bias", (10,)),
    Parameter("norm.running_mean", (10,)),
    Parameter("norm.running_var", (10,), "ones"),
]


def install_plugins(folder: Path) -> None:
    """Put a package with the plug-in models into a folder; what is on the path is installed."""
    (folder / "odd_models.py").write_text(PLUGINS)
    info = folder / "odd_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-models\nVersion: 1.0\n")
    names = ("Affine", "Chance", "Crowd", "Branch", "Buffers")
    points = "".join(f"{name.lower()} = odd_models:{name}\n" for name in names)
    (info / "entry_points.txt").write_text(f"[fed_compute.models]\n{points}")


def plugin_schema(name: str) -> ParameterSchema:
    """Return the parameters of a plug-in model."""
    return ParameterSchema(tuple(AFFINE + (NORM if name == "buffers" else [])))


def job_for(model: dict[str, Any] = MLP, **training: Any) -> JobSpec:
    """Return a job that trains a model; keyword arguments change the training."""
    return parse_job({"model": model, "training": {"lr": 0.1, "batch_size": 8} | training})


def start_of(job: JobSpec, schema: ParameterSchema | None = None) -> Vector:
    """Return a job's first parameters."""
    return draw_initial(schema or job.schema_of_model(), seed=3)


def shards_of(sizes: Sequence[int], dataset: Dataset = DIGITS) -> list[Shard]:
    """Return a shard of each size; they overlap, and no two are the same."""
    return [Shard(dataset, (np.arange(size) + 7 * client) % len(dataset)) for client, size in enumerate(sizes)]


def by_the_trainer(
    job: JobSpec,
    base: Vector,
    shards: Sequence[Shard],
    seeds: Sequence[int],
    *,
    schema: ParameterSchema | None = None,
    added: Sequence[Vector] | None = None,
) -> list[TrainingResult]:
    """Train each shard by the client's own trainer."""
    set_threads(1)
    recipe = Recipe.of(job, schema or job.schema_of_model(), seed=0)
    return [
        train(
            recipe.model_copy(update={"seed": seed}),
            base,
            shard.samples(),
            added=None if added is None else added[client],
        )
        for client, (shard, seed) in enumerate(zip(shards, seeds, strict=True))
    ]
