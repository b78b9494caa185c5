"""`simulate`: a job, many virtual clients and the real coordinator, in one call."""

import difflib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fed_compute.client import trainer
from fed_compute.clock import ManualClock
from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.settings import CoordinatorSettings
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.errors import SimulationImpossible
from fed_compute.ids import RoundId
from fed_compute.protocol.job import JobSpec, default_job, job_given
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.models import decode_model
from fed_compute.rounds.records import Job, Version
from fed_compute.simulator.cohort import CohortEngine, Plan, laid_out
from fed_compute.simulator.cohort.plan import Steady
from fed_compute.simulator.engines import EngineChoice, plan_named
from fed_compute.simulator.heap import settled_heap
from fed_compute.simulator.history import Quality, RoundRow, row_of, with_evaluations, with_quality
from fed_compute.simulator.models import Model, start_of, with_model
from fed_compute.simulator.population import FleetSpec, Population, fleet_given
from fed_compute.simulator.report import Report, Setup
from fed_compute.simulator.roster import Roster
from fed_compute.simulator.samples import Arrays, Samples, load_samples
from fed_compute.simulator.splits import Holdings, Split
from fed_compute.simulator.training import Engine, Workshop
from fed_compute.simulator.world import Tally, World
from fed_compute.storage.blob_stores import IN_PROCESS

BEGAN_AT = 1_767_225_600.0
"""Midnight UTC on 1 January 2026: the virtual clock starts here, so that hours of the day mean something."""
UNLIMITED = 10**9
MOST_ABANDONED = 10
"""So many rounds given up in a row end a simulation: a coordinator would go on for ever."""

OnRound = Callable[[RoundRow], None]


def simulate(
    job: JobSpec | Mapping[str, Any] | str | Path | None = None,
    *,
    clients: int = 100,
    model: Model | None = None,
    model_args: Mapping[str, Any] | None = None,
    data: str | Arrays = "digits",
    behavior: str | Path | FleetSpec | Mapping[str, Any] = "stable",
    seed: int = 0,
    rounds: int | None = None,
    split: str = "iid",
    samples_per_client: int | None = None,
    measure_every: int = 1,
    plan: str | None = None,
    processes: int | None = None,
    engine: str | Engine = "local",
    address: str | None = None,
    on_round: OnRound | None = None,
) -> Report:
    """Train a job with virtual clients around the real coordinator, in virtual time, and return what came of it.

    The coordinator is the product's own: rounds, leases, validation, aggregation and journal, on a store in memory.
    The clients train for real; only time passes by a clock of its own. Equal arguments give equal reports, byte for
    byte, on one machine and with one version of the libraries.

        report = simulate("job.toml", clients=100, data="digits", behavior="volunteer", seed=1)
        report.accuracy

    Args:
        job: a job, a job file, or the same as plain data; without one the job that `fed-compute serve` starts with.
        clients: how many virtual clients there are.
        model: a class or function that makes a new `torch.nn.Module`, instead of the job's model. It is registered
            under its name. Other processes train it only if they can import it: from a module, not from the program.
        model_args: what it is called with; plain data.
        data: a data specification as of `fed-compute join --data`, or arrays (x, y), or (x, y, users).
        behavior: who takes part and how: a preset (`stable`, `volunteer`, `hostile`, `mobile`), a fleet file, or
            the same as plain data.
        seed: of everything that is drawn: clients, their data, their training, the first model. It replaces the job's.
        rounds: how many rounds to train; without it the job's own number.
        split: who has which samples: `iid`, `dirichlet:0.3`, `shards:2`, `quantity:0.5`, `feature:0.5`, `user`.
        samples_per_client: draw so many for each client, with replacement, instead of sharing the data out.
        measure_every: after how many rounds the new model is measured on held-out samples; the last one always is. It
            changes no byte of a model. Other rounds have neither accuracy nor loss.
        plan: by which path clients are trained, such as `stacked:10`; `auto` measures which is fastest. Without one it
            follows from the model: paths round differently, so this keeps equal seeds equal.
        processes: how many processes train; without it as many as there are cores, here or in the cluster. It changes
            no byte.
        engine: where clients are trained: `local`, or `ray` for a Ray cluster; on machines alike it changes no byte.
            Or what trains instead; `plan` and `processes` are then without effect.
        address: of the Ray cluster: `auto`, `host:port` or `ray://host:port`. Without one it is that of `RAY_ADDRESS`,
            or one of this machine alone for the time of the run.
        on_round: called with each round's row as it ends, before clients have measured its version.

    Raises:
        JobFileInvalid, FleetInvalid, SimulationImpossible: before any training, naming the key and the nearest one.
        DatasetInvalid, DatasetMissing: if the data cannot be used or had.
        ModelUnknown, ModelMismatch: if the model cannot be built, or model and data do not fit together.
        CohortUnsupported: if `plan` cannot train this model.
        ExtraMissing: if the engine needs a package that is not installed.
        ClusterUnusable: if the cluster cannot be reached, or runs other versions than this process.
        WorkerLost: if a process that trains was lost, or the cluster.
    """
    where, fleet = EngineChoice.parse(engine if isinstance(engine, str) else "local", address), fleet_given(behavior)
    spec, cut = with_model(resolved(job, seed=seed, rounds=rounds), model, model_args), Split.parse(split)
    (schema, start), samples = start_of(spec), _shared(load_samples(data))
    setup = Setup(spec, fleet, clients, cut, seed, samples_per_client, samples.spec, measure_every, plan)
    holdings = holdings_of(setup, samples)
    population = Population(fleet, clients, seed=seed, began_at=BEGAN_AT, model_bytes=4 * schema.num_parameters)
    _check_possible(spec, population)
    clock, chosen = ManualClock(start=BEGAN_AT), plan_named(plan, spec, schema)
    with (
        one_thread(),
        where.open((samples.training,), model=spec.model.name, processes=processes, plan=chosen) as cohort,
        _coordinator(fleet, clock) as core,
        settled_heap(),
    ):
        workshop = Workshop(spec, schema, population, holdings, cohort if isinstance(engine, str) else engine)
        examiner = _Examiner(core, core.jobs.create(spec, schema=schema, first_model=start), samples, measure_every)
        roster = Roster(population, rng=np.random.default_rng([seed, 31]))
        look_seconds, first = fleet.coordinator.look_seconds, examiner.quality()
        world = World(core, clock, roster, workshop, job=examiner.job.job_id, look_seconds=look_seconds, seed=seed)
        rows = examiner.complete(_rounds(world, examiner, workshop, roster, on_round or _nobody))
        return Report(
            setup=replace(setup, plan=_plan_of(cohort, chosen)),
            rounds=rows,
            first=first,
            refusals=world.refusals,
            devices=population.counts(),
            num_attackers=population.num_attackers,
            holdings=holdings,
            model=examiner.vector,
            schema=schema,
        )


def holdings_of(setup: Setup, samples: Samples) -> Holdings:
    """Share the samples out. Where nobody is asked to measure, nobody holds anything out."""
    return Holdings(
        samples.training,
        setup.num_clients,
        setup.split,
        seed=setup.seed,
        users=samples.users,
        samples_per_client=setup.samples_per_client,
        holdout_fraction=setup.job.evaluation.holdout_fraction if setup.job.evaluation.every_rounds else None,
    )


def _rounds(
    world: World, examiner: "_Examiner", workshop: Workshop, roster: Roster, on_round: OnRound
) -> Iterator[RoundRow]:
    """Let the world go on until nothing is left to happen or to hope for; yield each round's row as it ends."""
    began_at, number, abandoned = world.begin(), 0, 0
    while abandoned < MOST_ABANDONED and world.step():
        for round_id, tally in world.take_ended():
            number += 1
            before = examiner.vector
            row = examiner.row(round_id, tally, number=number, began_at=began_at, contributors=roster.num_contributors)
            workshop.note_step(before, examiner.vector)
            abandoned = 0 if row.state == "closed" else abandoned + 1
            on_round(row)
            yield row


class _Examiner:
    """Measures versions on held-out samples."""

    def __init__(self, core: Coordinator, job: Job, samples: Samples, every: int) -> None:
        self.job = job
        self._core = core
        self._spec, self._schema = spec_of(job), schema_of(job)
        self._held_out, self._every = samples.held_out, every
        self._quality: Quality | None = None
        with core.store.snapshot() as records:
            self._take(records.versions.latest(job.job_id))

    def row(self, round_id: RoundId, tally: Tally, *, number: int, began_at: float, contributors: int) -> RoundRow:
        """Return the row of a round that has ended."""
        with self._core.store.snapshot() as records:
            round_, version = records.rounds.get(round_id), records.versions.latest(self.job.job_id)
            num_updates = records.updates.count(round_id)
        if version.version != self.version:
            self._take(version)
        row = row_of(
            round_,
            tally,
            number=number,
            version=self.version,
            num_updates=num_updates,
            num_contributors=contributors,
            began_at=began_at,
        )
        is_last = self.version > self._spec.rounds.total
        return with_quality(row, self.quality()) if is_last or number % self._every == 0 else row

    def quality(self) -> Quality:
        """Return how good the latest version is, measured once."""
        if self._quality is None:
            recipe = Recipe.of(self._spec, self._schema, seed=0)
            found = trainer.evaluate(recipe, self.vector, self._held_out)
            self._quality = Quality(found.accuracy, found.loss)
        return self._quality

    def complete(self, rows: Iterable[RoundRow]) -> tuple[RoundRow, ...]:
        """Return all rows, the last one measured, with what clients had measured by the end."""
        ended = list(rows)
        ended[-1:] = [with_quality(row, self.quality()) for row in ended[-1:]]
        with self._core.store.snapshot() as records:
            return with_evaluations(ended, records.evaluations.of_job(self.job.job_id))

    def _take(self, version: Version) -> None:
        self.version, self.vector = version.version, decode_model(self._core.models.get(version.digest), self._schema)
        self._quality = None


def resolved(job: JobSpec | Mapping[str, Any] | str | Path | None, *, seed: int, rounds: int | None) -> JobSpec:
    """Return the job as it is simulated: with the seed and the rounds that were asked for.

    Raises:
        JobFileInvalid: if it is no job.
        SimulationImpossible: if the rounds cannot be.
    """
    spec = default_job() if job is None else job_given(job)
    if not 0 <= seed < 2**63:
        raise SimulationImpossible(f"seed is {seed}, wanted a whole number from 0 to 2^63 - 1")
    if rounds is not None and not 1 <= rounds <= UNLIMITED // 1000:
        raise SimulationImpossible(f"rounds is {rounds}, wanted 1 to 1000000")
    section = spec.rounds if rounds is None else spec.rounds.model_copy(update={"total": rounds})
    return spec.model_copy(update={"seed": seed, "rounds": section})


def _check_possible(job: JobSpec, population: Population) -> None:
    """Raise SimulationImpossible if no round could end, or the job asks for what virtual clients do not do."""
    if job.audits.auditors:
        raise SimulationImpossible(
            f"audits.auditors is {job.audits.auditors}; virtual clients audit nobody, set it to 0"
        )
    if job.rounds.min_updates > len(population):
        raise SimulationImpossible(
            f"rounds.min_updates is {job.rounds.min_updates} and clients is {len(population)}: no round could ever "
            "close; raise clients, or lower min_updates"
        )
    trusted = job.aggregation.trusted_client
    if trusted is not None and trusted not in population.names:
        example = difflib.get_close_matches(trusted, population.names[:1000], n=1, cutoff=0.0)[0]
        raise SimulationImpossible(
            f"aggregation.trusted_client {trusted!r} is no virtual client; they are called as {example!r} is"
        )


@contextmanager
def _coordinator(fleet: FleetSpec, clock: ManualClock) -> Iterator[Coordinator]:
    """Open a coordinator whose records and blobs are in memory; its folder holds a pepper and nothing else."""
    with tempfile.TemporaryDirectory(prefix="fed-compute-simulation-") as folder:
        settings = CoordinatorSettings(
            data_dir=Path(folder),
            database_url="sqlite://",
            blob_url=IN_PROCESS,
            heartbeat_seconds=fleet.coordinator.heartbeat_seconds,
            newcomer_quota=UNLIMITED,
            daily_quota=UNLIMITED,
            updates_per_minute=UNLIMITED,
        )
        core = open_coordinator(settings, clock=clock)
        try:
            yield core
        finally:
            core.close()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread, which makes training repeatable bit for bit; afterwards as before."""
    before = torch.get_num_threads()
    trainer.set_threads(1)
    try:
        yield
    finally:
        trainer.set_threads(before)


def _shared(samples: Samples) -> Samples:
    """Lay what is trained on where other processes can read it."""
    return replace(samples, training=laid_out(samples.training))


def _plan_of(cohort: CohortEngine, chosen: Plan | Steady | None) -> str | None:
    if isinstance(chosen, Plan):
        return str(chosen)
    return None if cohort.calibration is None else str(cohort.calibration.plan)


def _nobody(row: RoundRow) -> None:
    """Tell nobody."""
