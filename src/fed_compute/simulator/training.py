"""From leases to update bodies: honest clients train, attackers make of it what they do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fed_compute.client.behavior import Course
from fed_compute.client.datasets import Dataset
from fed_compute.client.finishing import LeftBehind, finish
from fed_compute.client.recipes import LOSSLESS
from fed_compute.client.trainer import EvaluationResult, Evaluator
from fed_compute.coordinator.recipes import task_seed
from fed_compute.errors import TrainingDiverged, UpdateNotFinite
from fed_compute.ids import ClientId
from fed_compute.learning.control_variates import correction
from fed_compute.learning.vectors import Vector, is_finite
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.messages import MAX_LOSS, Recipe
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.protocol.updates import max_update_bytes
from fed_compute.simulator.attacks import Attack, View
from fed_compute.simulator.cohort import CohortEngine, CohortResult, Shard
from fed_compute.simulator.keepsakes import Keepsakes
from fed_compute.simulator.population import Population
from fed_compute.simulator.splits import Holdings
from fed_compute.storage.blobs import Bytes

MEASURING_COST = 1 / 3
"""The work of a forward pass, in parts of a whole step."""
Deltas = npt.NDArray[np.float32]
"""Shape (n, P), float32: trained minus base, a client in each row."""


class Trained(Protocol):
    """What a cohort came to: its deltas, and each client's mean training loss over the last epoch, shape (n,)."""

    @property
    def deltas(self) -> Deltas: ...

    @property
    def losses(self) -> npt.NDArray[np.float64]: ...


class Engine(Protocol):
    """Trains several clients from the same parameters. The same arguments give the same bytes."""

    def train(
        self,
        base: Vector,
        shards: Sequence[Shard],
        recipe: JobSpec,
        seeds: Sequence[int],
        *,
        schema: ParameterSchema | None = None,
        added: Deltas | None = None,
    ) -> Trained:
        """Return what each client's training gives, from `base`, shape (P,); NaN where it stopped being finite.

        `schema` is the model's, needed for a plug-in. `added`, shape (n, P), is added to each step's gradient of each
        client; None adds nothing.
        """
        ...


class _Effort(Protocol):
    """Training that goes on."""

    def until(self, count: int) -> CohortResult:
        """Return what it came to once the first `count` clients are done."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Done:
    """Training that is over."""

    trained: CohortResult

    def until(self, count: int) -> CohortResult:
        """Return what it came to."""
        return self.trained


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """One client's work: which client, in which round of the job, and the norm that its update must keep to."""

    client: int
    client_id: ClientId
    round_number: int
    max_norm: float
    max_num_samples: int


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """An update as it is sent, and what its client is to remember once it is accepted."""

    body: Bytes
    left: LeftBehind


class Workshop:
    """Does the work of leases. Attackers of a batch see the honest updates that are made beside theirs.

    Liars remember nothing: what follows from an honest update does not follow from theirs.
    """

    def __init__(
        self, job: JobSpec, schema: ParameterSchema, population: Population, holdings: Holdings, engine: Engine
    ) -> None:
        self._job = job
        self._schema = schema
        self._recipe = Recipe.of(job, schema, seed=0)
        self._strength = job.training.control_variates
        self._model_bytes = 4 * schema.num_parameters
        self._update_bytes = max_update_bytes(
            num_parameters=schema.num_parameters,
            encoding=job.wire.encoding,
            compression="none",
            topk_fraction=job.wire.topk_fraction,
        )
        self._population = population
        self._holdings = holdings
        self._engine = engine
        self._keepsakes = Keepsakes(len(population), num_parameters=schema.num_parameters)
        self._last_step: Vector = np.zeros(schema.num_parameters, dtype=np.float32)

    @property
    def held_bytes(self) -> int:
        """How much memory an update takes until it has arrived, with what it leaves behind."""
        num_vectors = 1 + (self._recipe.encoding != LOSSLESS) + (self._strength > 0)
        return self._model_bytes * num_vectors

    def note_step(self, before: Vector, after: Vector) -> None:
        """Remember how far the last version went: attackers may follow it."""
        self._last_step = after - before

    def course(self, client: int, rng: np.random.Generator, *, has_model: bool) -> Course:
        """Return how a training goes: the client's samples, as often as the job's epochs say, and some overhead.

        The model is fetched unless the client has it, and in a job with control variates as much again.
        """
        samples = self._holdings.sizes(client)[0] * self._job.training.local_epochs
        num_files = (not has_model) + (self._strength > 0)
        return self._course(client, samples, num_files * self._model_bytes, self._update_bytes, rng)

    def measuring_course(self, client: int, rng: np.random.Generator) -> Course:
        """Return how one measurement of a client goes: each sample that it holds out once, at a third of the work."""
        samples = self._holdings.sizes(client)[1] * MEASURING_COST
        return self._course(client, samples, self._model_bytes, 0, rng)

    def can_measure(self, client: int) -> bool:
        """Say whether a client holds anything out to measure models on."""
        return self._holdings.sizes(client)[1] > 0

    def measure(self, vector: Vector, clients: Sequence[int]) -> list[EvaluationResult | None]:
        """Return what clients find of the parameters `vector`, shape (P,), on what they hold out; liars as they train.

        None stands for a loss that is not finite, or that nobody would believe.
        """
        evaluator = Evaluator(self._recipe, vector)
        found: list[EvaluationResult | None] = []
        for client in clients:
            held_out = self._holdings.held_out(client)
            if held_out is None:
                raise ValueError(f"client {client} holds nothing out")
            shard = _relabelled(held_out, self._population.attack(client))
            try:
                result = evaluator.measure(shard.samples())
            except TrainingDiverged:
                found.append(None)
            else:
                found.append(result if result.loss <= MAX_LOSS else None)
        return found

    def make(self, base: Vector, orders: Sequence[Order], *, control: Vector | None = None) -> Iterator[Made | None]:
        """Begin the updates of several clients who all start from `base`, shape (P,); return them as they are sent.

        Each comes as soon as it is made, while those behind it are being trained. An attacker's waits for all, and
        knows how far the last version went when it is asked for. `control` is the control variate of that version,
        shape (P,), None for zero. None in the result stands for a client whose training stopped being finite: it has
        nothing to send.

        Raises:
            StateUnusable: if what the clients remember cannot be read.
        """
        attacks = [self._population.attack(order.client) for order in orders]
        shards = [
            _relabelled(self._holdings.training(order.client), attack)
            for order, attack in zip(orders, attacks, strict=True)
        ]
        seeds = [task_seed(self._job, round_number=order.round_number, client_id=order.client_id) for order in orders]
        added = self._corrections(orders, control)
        effort = _begun(self._engine, base, shards, self._job, seeds, schema=self._schema, added=added)
        return self._made(orders, attacks, [len(shard) for shard in shards], seeds, added, effort)

    def _made(
        self,
        orders: Sequence[Order],
        attacks: Sequence[Attack | None],
        counts: Sequence[int],
        seeds: Sequence[int],
        added: Deltas | None,
        effort: _Effort,
    ) -> Iterator[Made | None]:
        honest: Deltas | None = None
        for place, (order, attack, count, seed) in enumerate(zip(orders, attacks, counts, seeds, strict=True)):
            trained = effort.until(place + 1 if attack is None else len(orders))
            own, loss = trained.deltas[place], trained.losses[place]
            if not np.isfinite(loss):
                yield None
                continue
            recipe = self._recipe_of(seed)
            if attack is None:
                says, more = self._says(order, count, loss), None if added is None else added[place]
                yield self._finish(order, own, recipe, says, added=more, room=trained.room(place))
                continue
            honest = _honest(trained, attacks) if honest is None else honest
            lie, told = self._lie(attack, honest, own, count, num_clients=len(orders), seed=seed)
            yield _lied(order, lie, recipe, self._says(order, told, loss))

    def keep(self, client: int, left: LeftBehind) -> None:
        """Let a client remember what its update left behind, now that it was accepted.

        Raises:
            StateUnusable: if that cannot be written.
        """
        self._keepsakes.keep(client, left)

    def _corrections(self, orders: Sequence[Order], control: Vector | None) -> Deltas | None:
        """Return what is added to each client's gradients, shape (n, P); None in a job without control variates."""
        if self._strength == 0:
            return None
        added = np.empty((len(orders), self._schema.num_parameters), dtype=np.float32)
        common = np.zeros(self._schema.num_parameters, dtype=np.float32) if control is None else control
        for place, order in enumerate(orders):
            added[place] = correction(common, self._keepsakes.control(order.client), strength=self._strength)
        return added

    def _course(self, client: int, samples: float, down: int, up: int, rng: np.random.Generator) -> Course:
        device = self._population.device(client)
        seconds = samples / device.samples_per_second + device.overhead_seconds
        behavior = self._population.behavior(client)
        return behavior.decide_course(rng, work_seconds=seconds, down_bytes=down, up_bytes=up)

    def _lie(
        self, attack: Attack, honest: Deltas, own: Vector, count: int, *, num_clients: int, seed: int
    ) -> tuple[Vector, int]:
        known = honest if len(honest) else own[None]  # among liars alone, what they would send if they were honest
        num_attackers = max(1, num_clients - len(honest))
        view = View(
            known,
            own,
            self._last_step,
            num_samples=count,
            num_clients=len(known) + num_attackers,
            num_attackers=num_attackers,
        )
        sent = attack.send(view, np.random.default_rng(seed))
        return sent.delta, sent.num_samples

    def _recipe_of(self, seed: int) -> Recipe:
        """Return the recipe that an update is finished by; its seed matters only where something is rounded."""
        return self._recipe if self._recipe.encoding == LOSSLESS else self._recipe.model_copy(update={"seed": seed})

    def _says(self, order: Order, count: int, loss: float) -> dict[str, int | float]:
        says: dict[str, int | float] = {"num_samples": max(1, min(count, order.max_num_samples))}
        if self._job.training.report_steps:
            says["num_steps"] = self._job.training.num_steps(count)
        if 0 <= loss <= MAX_LOSS:
            says["loss"] = float(loss)
        return says

    def _finish(
        self,
        order: Order,
        delta: Vector,
        recipe: Recipe,
        says: Mapping[str, int | float],
        *,
        added: Vector | None,
        room: memoryview | None,
    ) -> Made | None:
        """Return an honest update, as the client's own code makes it of what was trained."""
        before = None if recipe.encoding == LOSSLESS else self._keepsakes.residual(order.client)
        try:
            finished = finish(
                delta,
                recipe,
                says,
                client_id=order.client_id,
                limit=order.max_norm,
                before=before,
                added=added,
                room=room,
            )
        except (TrainingDiverged, UpdateNotFinite):
            return None
        return Made(finished.body, finished.left)


def _begun(
    engine: Engine,
    base: Vector,
    shards: Sequence[Shard],
    job: JobSpec,
    seeds: Sequence[int],
    *,
    schema: ParameterSchema,
    added: Deltas | None,
) -> _Effort:
    """Begin to train; an engine that cannot do so by and by does it at once."""
    if isinstance(engine, CohortEngine):
        return engine.begin(base, shards, job, seeds, schema=schema, added=added)
    found = engine.train(base, shards, job, seeds, schema=schema, added=added)
    return _Done(CohortResult(found.deltas, found.losses))


def _honest(trained: Trained, attacks: Sequence[Attack | None]) -> Deltas:
    """Return the deltas of those who do not attack and whose training stayed finite."""
    sound = np.isfinite(trained.losses) & [is_finite(delta) for delta in trained.deltas]
    return trained.deltas[[attack is None and fine for attack, fine in zip(attacks, sound, strict=True)]]


def _relabelled(shard: Shard, attack: Attack | None) -> Shard:
    """Return what a client takes for its samples: a liar's may have other classes."""
    if attack is None or shard.dataset.y.dtype != np.int64:
        return shard
    samples = shard.samples()
    own = samples.y.astype(np.int64)
    classes = attack.relabel(own, num_classes=int(shard.dataset.y.max()) + 1)
    return shard if classes is own else Shard.whole(Dataset(samples.x, classes, samples.name))


def _lied(order: Order, delta: Vector, recipe: Recipe, says: Mapping[str, int | float]) -> Made | None:
    """Return a lie as it is sent: cut to what its round allows, unless it is not finite."""
    limit = order.max_norm if is_finite(delta) else None
    try:
        return Made(finish(delta, recipe, says, client_id=order.client_id, limit=limit).body, LeftBehind())
    except (TrainingDiverged, UpdateNotFinite):
        return None
