"""One run: a job, a fleet, and how accurate the model is at which virtual time."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fed_compute.client import trainer
from fed_compute.client.datasets import load_dataset, split_holdout
from fed_compute.client.datasets.partition import dirichlet_parts
from fed_compute.client.models.built_in import BUILT_IN_MODULES
from fed_compute.clock import ManualClock
from fed_compute.coordinator.recipes import recipe_of, schema_of, spec_of
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.coordinator.verify import verify
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.ids import ClientId
from fed_compute.learning.privacy import PrivacyProtector
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.models import decode_model
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import encode_update
from fed_compute.rounds.records import Version
from fed_compute.simulator.fleet.setting import Setting
from fed_compute.simulator.fleet.world import World
from fed_compute.simulator.stacked import StackedModel

HOLDOUT_FRACTION, HOLDOUT_SEED = 0.2, 0
SMOOTHED_OVER = 5
"""The target is reached at the middle one of the first so many versions in a row whose mean accuracy is there."""
HEARTBEAT_SECONDS = 20.0
UNLIMITED = 10**9


@dataclass(frozen=True, slots=True)
class Point:
    """The accuracy of one version on held-out digits, from 0 to 1, and when it appeared, in virtual seconds."""

    seconds: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Trial:
    """How a run came out. `reached_at` is None if it did not reach the target; `breaches` is what verify found."""

    points: tuple[Point, ...]
    reached_at: float | None
    updates: int
    mean_staleness: float
    late: int
    vanished: int
    contributors: int
    breaches: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def run_trial(spec: JobSpec, setting: Setting, folder: Path, *, seed: int) -> Trial:
    """Train until the target is reached or the time is over. Equal arguments give equal results on one machine.

    The coordinator is the product's: leases, validation, folding, journal and the rest, on a database in memory.
    Updates and models are left in `folder`, which must be empty.
    """
    clock = ManualClock()
    settings = load_settings(
        data_dir=folder,
        database_url="sqlite://",
        heartbeat_seconds=HEARTBEAT_SECONDS,
        newcomer_quota=UNLIMITED,
        daily_quota=UNLIMITED,
        requests_per_minute=UNLIMITED,
        updates_per_minute=UNLIMITED,
        upload_mib_per_hour=UNLIMITED,
    )
    core = open_coordinator(settings, clock=clock)
    try:
        core.jobs.create(spec)
        return _run(core, clock, setting, seed=seed)
    finally:
        core.close()


def _run(core: Coordinator, clock: ManualClock, setting: Setting, *, seed: int) -> Trial:
    machines, began = setting.machines(seed=seed), clock.now()
    school = _School(core, [machine.name for machine in machines], setting, seed=seed)
    world = World(core, clock, setting, school.train, np.random.default_rng([seed, 1]))
    points, reached_at = list[Point](), None
    world.join(machines)
    while reached_at is None and clock.now() - began < setting.longest_seconds:
        world.step()
        if (accuracy := school.news()) is not None:
            points.append(Point(round(clock.now() - began, 1), round(accuracy, 4)))
            recent = [point.accuracy for point in points[-SMOOTHED_OVER:]]
            if len(recent) == SMOOTHED_OVER and sum(recent) / SMOOTHED_OVER >= setting.target_accuracy:
                reached_at = points[-1 - SMOOTHED_OVER // 2].seconds
    tally = world.tally
    return Trial(
        points=tuple(points),
        reached_at=reached_at,
        updates=tally.updates,
        mean_staleness=tally.staleness_sum / max(1, tally.updates),
        late=tally.late,
        vanished=tally.vanished,
        contributors=tally.contributors,
        breaches=len(verify(core.store, core.blobs).breaches),
    )


class _School:
    """Trains each machine's part of the digits with the client's own trainer, and examines the versions."""

    def __init__(self, core: Coordinator, names: list[ClientId], setting: Setting, *, seed: int) -> None:
        training, self._held_out = split_holdout(load_dataset("digits"), HOLDOUT_FRACTION, HOLDOUT_SEED)
        rows = dirichlet_parts(training.y, len(names), alpha=setting.alpha, seed=seed)
        self._parts = {name: training.take(part) for name, part in zip(names, rows, strict=True)}
        self._core, self._job = core, core.jobs.default()
        model, self._schema = spec_of(self._job).model, schema_of(self._job)
        self._model = StackedModel(BUILT_IN_MODULES[model.name](model.args), self._schema)
        self._examined = 0

    def train(self, work: Assignment) -> bytes:
        """Do the work of a task and return the update."""
        limits = self._core.limits.of(work.job, work.round.round_id)
        recipe = recipe_of(
            work.job,
            work.task,
            round_number=work.round.number,
            max_norm=limits.max_norm,
            max_num_samples=limits.max_num_samples,
        )
        done = trainer.train(recipe, self._vector(work.version), self._parts[work.task.client_id])
        return encode_update(
            PrivacyProtector.clip(done.delta, limits.max_norm),
            encoding=recipe.encoding,
            compression=recipe.compression,
            topk_fraction=recipe.topk_fraction,
            schema_digest=recipe.schema_digest,
            num_samples=done.num_samples,
            loss=done.loss,
            train_seconds=None,
            rng=np.random.default_rng(recipe.seed),
        )

    def news(self) -> float | None:
        """Return the accuracy of the newest version on held-out digits, None if it was examined already."""
        with self._core.store.snapshot() as records:
            version = records.versions.latest(self._job.job_id)
        if version.version == self._examined:
            return None
        self._examined = version.version
        inputs, classes = torch.from_numpy(self._held_out.x), torch.from_numpy(self._held_out.y)
        return float(self._model.accuracies(self._vector(version)[None].copy(), inputs, classes)[0]) / 100.0

    def _vector(self, version: Version) -> Vector:
        return decode_model(self._core.models.get(version.digest), self._schema)
