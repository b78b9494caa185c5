"""What a stored job means: its parsed spec, its schema, and the recipe of one task."""

import functools
import hashlib
import json

from fed_compute.ids import ClientId
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.rounds.records import Job, Task


@functools.lru_cache(maxsize=256)
def _parse_spec(text: str) -> JobSpec:
    return JobSpec.model_validate_json(text)


@functools.lru_cache(maxsize=256)
def _parse_schema(text: str) -> ParameterSchema:
    return ParameterSchema.from_json(json.loads(text))


def spec_of(job: Job) -> JobSpec:
    """Return a job's recipe. Parsed once per process: a stored job never changes."""
    return _parse_spec(job.spec)


def schema_of(job: Job) -> ParameterSchema:
    """Return a job's parameters. Parsed once per process: a stored job never changes."""
    return _parse_schema(job.schema)


def task_seed(spec: JobSpec, *, round_number: int, client_id: ClientId) -> int:
    """Return the seed of one client's local training in one round, 63 bits.

    It depends on nothing but the job's seed, the round's number and the client's name, so a run with
    the same participants repeats exactly.
    """
    text = f"{spec.seed}:{round_number}:{client_id}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def recipe_of(job: Job, task: Task, *, round_number: int, max_norm: float, max_num_samples: int) -> Recipe:
    """Return everything a client needs to do a task. The last two are its round's limits for updates."""
    spec = spec_of(job)
    seed = task_seed(spec, round_number=round_number, client_id=task.client_id)
    return Recipe.of(spec, schema_of(job), seed=seed, max_update_norm=max_norm, max_num_samples=max_num_samples)
