"""From leases to update bodies: honest clients train, attackers make of it what they do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fed_compute.client.behavior import Course
from fed_compute.client.datasets import Dataset
from fed_compute.client.finishing import LeftBehind, finish
from fed_compute.client.recipes import LOSSLESS
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
from fed_compute.simulator.cohort import Shard
from fed_compute.simulator.keepsakes import Keepsakes
from fed_compute.simulator.population import Population
from fed_compute.simulator.splits import Holdings

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

    body: bytes
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
        self._download_bytes = 4 * schema.num_parameters * (2 if self._strength > 0 else 1)
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
        return 4 * self._schema.num_parameters * num_vectors

    def note_step(self, before: Vector, after: Vector) -> None:
        """Remember how far the last version went: attackers may follow it."""
        self._last_step = after - before

    def course(self, client: int, rng: np.random.Generator) -> Course:
        """Return how one task of a client goes: its samples, as often as the job's epochs say, and some overhead."""
        device = self._population.device(client)
        work = len(self._holdings.rows(client)) * self._job.training.local_epochs
        return self._population.behavior(client).decide_course(
            rng,
            work_seconds=work / device.samples_per_second + device.overhead_seconds,
            down_bytes=self._download_bytes,
            up_bytes=self._update_bytes,
        )

    def make(self, base: Vector, orders: Sequence[Order], *, control: Vector | None = None) -> list[Made | None]:
        """Return the updates of several clients who all start from `base`, shape (P,), as they are sent.

        `control` is the control variate of that version, shape (P,), None for zero. None in the result stands for a
        client whose training stopped being finite: it has nothing to send.

        Raises:
            StateUnusable: if what the clients remember cannot be read.
        """
        attacks = [self._population.attack(order.client) for order in orders]
        shards = [self._shard(order.client, attack) for order, attack in zip(orders, attacks, strict=True)]
        seeds = [task_seed(self._job, round_number=order.round_number, client_id=order.client_id) for order in orders]
        added = self._corrections(orders, control)
        trained = self._engine.train(base, shards, self._job, seeds, schema=self._schema, added=added)
        sound, honest = np.isfinite(trained.losses), trained.deltas[:0]
        if any(attack is not None for attack in attacks):  # else nobody looks at the others' values
            sound &= [is_finite(delta) for delta in trained.deltas]
            honest = trained.deltas[[attack is None and fine for attack, fine in zip(attacks, sound, strict=True)]]
        made: list[Made | None] = []
        for place, (order, attack) in enumerate(zip(orders, attacks, strict=True)):
            if not sound[place]:
                made.append(None)
                continue
            own, count, seed = trained.deltas[place], len(shards[place]), seeds[place]
            says, recipe = self._says(order, count, trained.losses[place]), self._recipe_of(order, seed)
            if attack is None:
                made.append(self._finish(order, own, recipe, says, added=None if added is None else added[place]))
            else:
                own, count = self._lie(attack, honest, own, count, num_clients=len(orders), seed=seed)
                made.append(_lied(order, own, recipe, self._says(order, count, trained.losses[place])))
        return made

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

    def _shard(self, client: int, attack: Attack | None) -> Shard:
        shard = self._holdings.shard(client)
        if attack is None or shard.dataset.y.dtype != np.int64:
            return shard
        samples = shard.samples()
        own = samples.y.astype(np.int64)
        classes = attack.relabel(own, num_classes=int(shard.dataset.y.max()) + 1)
        return shard if classes is own else Shard.whole(Dataset(samples.x, classes, samples.name))

    def _lie(
        self, attack: Attack, honest: Deltas, own: Vector, count: int, *, num_clients: int, seed: int
    ) -> tuple[Vector, int]:
        view = View(
            honest if len(honest) else own[None],
            own,
            self._last_step,
            num_samples=count,
            num_clients=num_clients,
            num_attackers=max(1, num_clients - len(honest)),
        )
        sent = attack.send(view, np.random.default_rng(seed))
        return sent.delta, sent.num_samples

    def _recipe_of(self, order: Order, seed: int) -> Recipe:
        return self._recipe.model_copy(update={"seed": seed, "max_update_norm": order.max_norm})

    def _says(self, order: Order, count: int, loss: float) -> dict[str, int | float]:
        says: dict[str, int | float] = {"num_samples": max(1, min(count, order.max_num_samples))}
        if self._job.training.report_steps:
            says["num_steps"] = self._job.training.num_steps(count)
        if 0 <= loss <= MAX_LOSS:
            says["loss"] = float(loss)
        return says

    def _finish(
        self, order: Order, delta: Vector, recipe: Recipe, says: Mapping[str, int | float], *, added: Vector | None
    ) -> Made | None:
        """Return an honest update, as the client's own code makes it of what was trained."""
        before = None if recipe.encoding == LOSSLESS else self._keepsakes.residual(order.client)
        try:
            finished = finish(
                delta, recipe, says, client_id=order.client_id, limit=order.max_norm, before=before, added=added
            )
        except (TrainingDiverged, UpdateNotFinite):
            return None
        return Made(finished.body, finished.left)


def _lied(order: Order, delta: Vector, recipe: Recipe, says: Mapping[str, int | float]) -> Made | None:
    """Return a lie as it is sent: cut to what its round allows, unless it is not finite."""
    limit = order.max_norm if is_finite(delta) else None
    try:
        return Made(finish(delta, recipe, says, client_id=order.client_id, limit=limit).body, LeftBehind())
    except (TrainingDiverged, UpdateNotFinite):
        return None
