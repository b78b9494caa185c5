"""One run: a job, a fleet, and how accurate the model is at which virtual time."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fed_compute.client import trainer
from fed_compute.clock import ManualClock
from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.verify import verify
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.models import decode_model
from fed_compute.rounds.records import Job
from fed_compute.simulator.cohort import CohortEngine
from fed_compute.simulator.engines import steady_plan
from fed_compute.simulator.fleet.setting import HEARTBEAT_SECONDS, LOOK_SECONDS, Setting
from fed_compute.simulator.population import Population
from fed_compute.simulator.roster import Roster
from fed_compute.simulator.samples import Samples, load_samples
from fed_compute.simulator.splits import Holdings, Split
from fed_compute.simulator.training import Workshop
from fed_compute.simulator.world import Tally, World

SMOOTHED_OVER = 5
"""The target is reached at the middle one of the first so many versions in a row whose mean accuracy is there."""
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
        updates_per_minute=UNLIMITED,
    )
    core = open_coordinator(settings, clock=clock)
    try:
        return _run(core, core.jobs.create(spec), clock, setting, seed=seed)
    finally:
        core.close()


def _run(core: Coordinator, job: Job, clock: ManualClock, setting: Setting, *, seed: int) -> Trial:
    samples, spec, schema = load_samples("digits"), spec_of(job), schema_of(job)
    split = Split("dirichlet", setting.alpha)
    holdings = Holdings(samples.training, setting.num_clients, split, seed=seed)
    population = Population(setting.fleet(), setting.num_clients, seed=seed, began_at=clock.now())
    roster = Roster(population, rng=np.random.default_rng([seed, 31]))
    with CohortEngine((samples.training,), processes=1, plan=steady_plan(spec, schema)) as engine:
        workshop = Workshop(spec, schema, population, holdings, engine)
        world = World(
            core, clock, roster, workshop, job=job.job_id, look_seconds=LOOK_SECONDS, seed=seed, keeps_bodies=True
        )
        points, tallies, reached_at, began_at = list[Point](), list[Tally](), None, world.begin()
        while reached_at is None and clock.now() - began_at < setting.longest_seconds and world.step():
            if ended := world.take_ended():
                tallies += [tally for _, tally in ended]
                points.append(Point(round(clock.now() - began_at, 1), _accuracy(core, job, samples)))
                reached_at = _reached_at(points, setting.target_accuracy)
    staleness = [versions for tally in tallies for versions in tally.staleness]
    return Trial(
        points=tuple(points),
        reached_at=reached_at,
        updates=len(staleness),
        mean_staleness=sum(staleness) / max(1, len(staleness)),
        late=sum(tally.late + tally.stopped for tally in tallies),
        vanished=sum(tally.vanished for tally in tallies),
        contributors=roster.num_contributors,
        breaches=len(verify(core.store, core.blobs).breaches),
    )


def _reached_at(points: list[Point], target_accuracy: float) -> float | None:
    """Return when the target was reached, if the last versions have it in the mean."""
    recent = [point.accuracy for point in points[-SMOOTHED_OVER:]]
    if len(recent) < SMOOTHED_OVER or sum(recent) / SMOOTHED_OVER < target_accuracy:
        return None
    return points[-1 - SMOOTHED_OVER // 2].seconds


def _accuracy(core: Coordinator, job: Job, samples: Samples) -> float:
    """Return the share of held-out digits that the newest version gets right."""
    with core.store.snapshot() as records:
        version = records.versions.latest(job.job_id)
    vector = decode_model(core.models.get(version.digest), schema_of(job))
    found = trainer.evaluate(Recipe.of(spec_of(job), schema_of(job), seed=0), vector, samples.held_out)
    return round(found.accuracy or 0.0, 4)
