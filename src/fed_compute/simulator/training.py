"""From leases to update bodies: honest clients train, attackers make of it what they do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fed_compute.client.behavior import Course
from fed_compute.client.datasets import Dataset
from fed_compute.coordinator.recipes import task_seed
from fed_compute.ids import ClientId
from fed_compute.learning.privacy import PrivacyProtector
from fed_compute.learning.vectors import Vector
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.protocol.updates import encode_update, max_update_bytes
from fed_compute.simulator.attacks import Attack, View
from fed_compute.simulator.cohort import Shard
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

    def train(self, base: Vector, shards: Sequence[Shard], recipe: JobSpec, seeds: Sequence[int]) -> Trained:
        """Return what each client's training gives, from `base`, shape (P,); NaN where it stopped being finite."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """One client's work: which client, in which round of the job, and the norm that its update must keep to."""

    client: int
    client_id: ClientId
    round_number: int
    max_norm: float
    max_num_samples: int


class Workshop:
    """Does the work of leases. Attackers of a batch see the honest updates that are made beside theirs."""

    def __init__(
        self, job: JobSpec, schema: ParameterSchema, population: Population, holdings: Holdings, engine: Engine
    ) -> None:
        self._job = job
        self._schema_digest = schema.digest()
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
        self._last_step: Vector = np.zeros(schema.num_parameters, dtype=np.float32)

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
            down_bytes=self._model_bytes,
            up_bytes=self._update_bytes,
        )

    def bodies(self, base: Vector, orders: Sequence[Order]) -> list[bytes | None]:
        """Return the updates of several clients who all start from `base`, shape (P,), as they are sent.

        None stands for a client whose training stopped being finite: it has nothing to send.
        """
        attacks = [self._population.attack(order.client) for order in orders]
        shards = [self._shard(order.client, attack) for order, attack in zip(orders, attacks, strict=True)]
        seeds = [task_seed(self._job, round_number=order.round_number, client_id=order.client_id) for order in orders]
        trained = self._engine.train(base, shards, self._job, seeds)
        sound = np.isfinite(trained.losses) & np.isfinite(trained.deltas).all(axis=1)
        honest = trained.deltas[[attack is None and fine for attack, fine in zip(attacks, sound, strict=True)]]
        bodies: list[bytes | None] = []
        for place, (order, attack) in enumerate(zip(orders, attacks, strict=True)):
            if not sound[place]:
                bodies.append(None)
                continue
            own, count = trained.deltas[place], len(shards[place])
            if attack is not None:
                own, count = self._lie(attack, honest, own, count, num_clients=len(orders), seed=seeds[place])
            bodies.append(self._body(order, own, count, loss=float(trained.losses[place]), seed=seeds[place]))
        return bodies

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

    def _body(self, order: Order, delta: Vector, count: int, *, loss: float, seed: int) -> bytes:
        """Return an update as bytes, cut to what its round allows, as the client's own code does."""
        finite = bool(np.isfinite(delta).all())
        return encode_update(
            PrivacyProtector.clip(delta, order.max_norm) if finite else delta,
            encoding=self._job.wire.encoding,
            compression=self._job.wire.compression,
            topk_fraction=self._job.wire.topk_fraction,
            schema_digest=self._schema_digest,
            num_samples=max(1, min(count, order.max_num_samples)),
            loss=loss,
            train_seconds=None,
            num_steps=self._job.training.num_steps(count) if self._job.training.report_steps else None,
            rng=np.random.default_rng(seed),
        )
