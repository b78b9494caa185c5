"""From stored updates to the next parameters: a fold that gives the same bytes whenever it is run."""

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import numpy as np

from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.weighing import first_weight, step_scale
from fed_compute.errors import BlobCorrupt, InvariantBroken, UpdateRefused
from fed_compute.ids import ClientId, Digest, UpdateId
from fed_compute.learning.aggregation import (
    Aggregator,
    OptimizerState,
    Outcome,
    RobustFold,
    RobustRule,
    RoundContext,
    WeightedMean,
    accumulated_steps,
    new_rule,
    server_optimizer,
)
from fed_compute.learning.aggregation.control_variates import CONTROL, next_control
from fed_compute.learning.vectors import groups
from fed_compute.protocol.aggregation_section import AggregationSection
from fed_compute.protocol.container import TensorSpec, open_container, write_container
from fed_compute.protocol.job import Compression, Encoding
from fed_compute.protocol.models import decode_model, encode_model
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import DecodedUpdate, decode_update
from fed_compute.rounds.records import Job, Update
from fed_compute.storage.blobs import BlobStore

_ENCODINGS, _COMPRESSIONS = get_args(Encoding), get_args(Compression)


def new_aggregator(job: Job, *, folder: Path) -> Aggregator:
    """Return an empty aggregator with the job's rule and server optimiser.

    A rule that has to see all updates at once keeps them in a nameless file in `folder`.
    """
    settings = spec_of(job).aggregation
    optimizer = server_optimizer(
        settings.server_optimizer,
        lr=settings.server_lr,
        momentum=settings.momentum,
        beta1=settings.beta1,
        beta2=settings.beta2,
        tau=settings.tau,
    )
    num_parameters = schema_of(job).num_parameters
    if settings.is_plain_average:
        return Aggregator(WeightedMean(num_parameters), optimizer)
    fold = RobustFold(rule_of(settings), num_parameters, folder=folder)
    return Aggregator(fold, optimizer, keeps_center=settings.rule == "centered_clipping")


def rule_of(settings: AggregationSection) -> RobustRule:
    """Return the rule that a job names, with its numbers."""
    return new_rule(
        settings.rule,
        f=settings.f,
        pre=settings.pre,
        clip_norm=settings.clip_norm,
        clip_radius=settings.clip_radius,
        clip_iterations=settings.clip_iterations,
        median_iterations=settings.median_iterations,
        median_smoothing=settings.median_smoothing,
        bucket_size=settings.bucket_size,
    )


@dataclass(frozen=True, slots=True)
class FoldedRound:
    """What a round was folded to: the next model file, the state file, the manifest, and how it came about."""

    model: bytes
    state: bytes | None
    manifest: str
    outcome: Outcome


class RoundFold:
    """Takes in the updates of one round, in sequence, as they come. They change the version `base_version`.

    Those are folded in ahead whose weights and places are likely to stay; the rest when they are known, in the end.

    Memory: under plain averaging the aggregator (16 bytes a parameter, 32 for a model of at most 2 MiB) and as many
    updates at a time as make 4 MiB, at least one, however many there are. Other rules keep the updates in a nameless
    file beside the bodies that are still arriving.
    """

    def __init__(self, job: Job, blobs: BlobStore, *, base_version: int) -> None:
        self._job = job
        self._blobs = blobs
        self._base_version = base_version
        self._aggregator = self._new_aggregator()
        self._updates: list[Update] = []
        self._first_weights: dict[UpdateId, float] = {}
        self._folded: list[Update] = []
        self._waiting: list[Update] = []
        self._num_steps: dict[UpdateId, int | None] = {}

    @property
    def last_update_id(self) -> int:
        """The last update taken in, 0 if none."""
        return self._updates[-1].update_id if self._updates else 0

    @property
    def updates(self) -> tuple[Update, ...]:
        """The updates taken in so far, in sequence."""
        return tuple(self._updates)

    @property
    def waiting(self) -> tuple[Update, ...]:
        """Those of them that are not folded in yet."""
        return tuple(self._waiting)

    @property
    def num_updates(self) -> int:
        """Updates taken in so far."""
        return len(self._updates)

    @property
    def num_samples(self) -> int:
        """Samples that their senders say are behind them."""
        return sum(update.num_samples for update in self._updates)

    def add(self, updates: Iterable[Update]) -> None:
        """Take in more updates, which must come in sequence. Their bodies are not read yet.

        Raises:
            InvariantBroken: if an update comes out of sequence.
            SampleCountInvalid: if a recorded claim is impossible: somebody changed it.
        """
        for update in updates:
            if update.update_id <= self.last_update_id:
                raise InvariantBroken(f"update {update.update_id} comes after {self.last_update_id} in the fold")
            self._first_weights[update.update_id] = first_weight(self._job, update, base_version=self._base_version)
            self._updates.append(update)
            self._waiting.append(update)

    def fold(self, most: int | None = None, *, leaving: Container[ClientId] = ()) -> bool:
        """Fold in what waits, at most so many updates, each with the weight that it has if nothing is known of others.

        Those of the clients `leaving` go on waiting. Say whether there were any others.

        Raises:
            BlobMissing, BlobCorrupt: if a body is not what was accepted. Nothing of it is folded in, nor of those
                that were read with it: they wait.
        """
        ready = [update for update in self._waiting if update.client_id not in leaving][:most]
        self._fold(ready, self._first_weights)
        return bool(ready)

    def _new_aggregator(self) -> Aggregator:
        return new_aggregator(self._job, folder=self._blobs.incoming("fold").parent)

    def _fold(self, updates: Iterable[Update], weights: Mapping[UpdateId, float]) -> None:
        try:
            for group in groups(updates, num_parameters=schema_of(self._job).num_parameters):
                self._fold_group(group, [weights[update.update_id] for update in group])
        finally:
            self._waiting = [update for update in self._waiting if update.update_id not in self._num_steps]

    def _fold_group(self, updates: Sequence[Update], weights: Sequence[float]) -> None:
        stored = [stored_update(self._job, self._blobs, update) for update in updates]
        self._aggregator.add_all([update.delta for update in stored], weights=weights)
        self._num_steps |= {one.update_id: read.num_steps for one, read in zip(updates, stored, strict=True)}
        self._folded += updates

    def finish(self, model: bytes, optimizer: bytes | None, *, weights: Mapping[UpdateId, float]) -> FoldedRound:
        """Return the next version, in which each update has its weight.

        The updates are folded in the order of `weights`. Those that still wait come now, and if others were folded in
        with another weight or in another place, all are folded in again.

        Raises:
            AggregateNotFinite: if the next parameters would not be finite.
            NothingToAggregate, RoundTooSmall, RootUpdateMissing: if the rule cannot make anything of these updates.
            BlobMissing, BlobCorrupt: if a body that has to be read, perhaps again, is not what was accepted.
            ValueError: if a weight is impossible, or not each update has one.
        """
        by_id = {update.update_id: update for update in self._updates}
        if by_id.keys() != weights.keys():
            raise ValueError(f"there are weights of updates {sorted(weights)}, wanted those of {sorted(by_id)}")
        order, numbers = [by_id[update_id] for update_id in weights], list(weights.values())
        schema, manifest = schema_of(self._job), write_manifest(order, numbers)
        memory = dict(_decode_state(optimizer, self._job).vectors)
        control = memory.pop(CONTROL, None)
        if order[: len(self._folded)] != self._folded:
            self._aggregator, self._folded = self._new_aggregator(), []
        num_folded = len(self._folded)
        self._aggregator.weigh(numbers[:num_folded], lambda: map(self._delta, self._folded))
        self._fold(order[num_folded:], weights)
        scale = step_scale(self._job, order, numbers, base_version=self._base_version)
        after = self._aggregator.finish(
            decode_model(model, schema), OptimizerState(memory), self._context(order), step_scale=scale
        )
        state = OptimizerState({**after.state.vectors, **self._control(control, order, numbers)})
        return FoldedRound(encode_model(after.parameters, schema), _encode_state(state), manifest, after.outcome)

    def _control(
        self, control: Vector | None, updates: Sequence[Update], weights: Sequence[float]
    ) -> dict[str, Vector]:
        """Return the next control variate by its name, if the job has one; each update's body is read once more."""
        spec = spec_of(self._job)
        if spec.training.control_variates == 0:
            return {}
        if control is None:
            control = np.zeros(schema_of(self._job).num_parameters, dtype=np.float32)
        after = next_control(
            control,
            map(self._delta, updates),
            ways=[steps * spec.training.lr for steps in self._told_steps(updates)],
            weights=np.array(weights, dtype=np.float64),
            fraction=spec.aggregation.control_fraction,
            folder=self._blobs.incoming("fold").parent,
        )
        return {CONTROL: after}

    def _context(self, updates: Sequence[Update]) -> RoundContext:
        """Return what the rule needs beside the updates: all of it follows from them and the job."""
        trusted = spec_of(self._job).aggregation.trusted_client
        places = [place for place, update in enumerate(updates) if update.client_id == trusted]
        digests = "".join(update.digest for update in updates)
        seed = int.from_bytes(hashlib.sha256(digests.encode()).digest()[:8], "big")
        return RoundContext(root=places[0] if places else None, steps=self._steps(updates), seed=seed)

    def _steps(self, updates: Sequence[Update]) -> tuple[float, ...] | None:
        """Return how far the local steps behind each update add up, if that matters to the rule."""
        spec = spec_of(self._job)
        if not spec.aggregation.uses_steps:
            return None
        training = spec.training
        momentum, pull = training.momentum, training.lr * training.proximal_mu
        return tuple(accumulated_steps(steps, momentum=momentum, pull=pull) for steps in self._told_steps(updates))

    def _told_steps(self, updates: Sequence[Update]) -> list[int]:
        told = [steps for update in updates if (steps := self._num_steps[update.update_id]) is not None]
        if len(told) < len(updates):
            raise InvariantBroken(f"an update of round {updates[0].round_id} does not say its number of steps")
        return told

    def _delta(self, update: Update) -> Vector:
        return stored_delta(self._job, self._blobs, update)


def stored_delta(job: Job, blobs: BlobStore, update: Update) -> Vector:
    """Return the values of an accepted update, float32 (P,).

    Raises:
        As `stored_update`.
    """
    return stored_update(job, blobs, update).delta


def stored_update(job: Job, blobs: BlobStore, update: Update) -> DecodedUpdate:
    """Return an accepted update: its values, and what it says beside them.

    Raises:
        BlobMissing, BlobCorrupt: if its body is not what was accepted.
        InvariantBroken: if it is recorded in a form that is none.
    """
    if update.encoding not in _ENCODINGS or update.compression not in _COMPRESSIONS:
        form = f"encoding {update.encoding!r} and compression {update.compression!r}"
        raise InvariantBroken(f"update {update.update_id} is recorded with {form}, of which one is unknown")
    schema, body = schema_of(job), blobs.get(update.digest)
    try:
        return decode_update(
            body,
            num_parameters=schema.num_parameters,
            schema_digest=schema.digest(),
            encoding=cast(Encoding, update.encoding),
            compression=cast(Compression, update.compression),
            topk_fraction=spec_of(job).wire.topk_fraction,
        )
    except UpdateRefused as error:
        raise BlobCorrupt(digest=update.digest, got=f"bytes that are not an update: {error.message}") from error


def write_manifest(updates: Sequence[Update], weights: Sequence[float]) -> str:
    """Write which updates a version was made from, with digests and weights, in folding order."""
    rows = zip(updates, weights, strict=True)
    return json.dumps([[u.update_id, u.digest, _shortest(weight)] for u, weight in rows], separators=(",", ":"))


def _shortest(weight: float) -> float | int:
    return int(weight) if weight.is_integer() else weight


def read_manifest(text: str) -> list[tuple[int, Digest, float]]:
    """Read (update id, digest, weight) in folding order.

    Raises:
        InvariantBroken: if it is no manifest: somebody changed it.
    """
    try:
        return [(int(update_id), Digest(digest), float(weight)) for update_id, digest, weight in json.loads(text)]
    except (ValueError, TypeError) as error:
        raise InvariantBroken(f"a version's manifest cannot be read: {text[:80]!r}") from error


def _encode_state(state: OptimizerState) -> bytes | None:
    if not state.vectors:
        return None
    specs = {name: TensorSpec("F32", vector.shape) for name, vector in state.vectors.items()}
    return write_container(dict(state.vectors), specs=specs, metadata={"format": "fed-compute-optimizer"})


def control_in(state: bytes | None, job: Job) -> Vector | None:
    """Return the control variate in a version's state file, float32 (P,); None while it is zero."""
    return _decode_state(state, job).vectors.get(CONTROL)


def _decode_state(body: bytes | None, job: Job) -> OptimizerState:
    if body is None:
        return OptimizerState.initial()
    container = open_container(body)
    specs = {name: TensorSpec("F32", (schema_of(job).num_parameters,)) for name in container.header.records}
    return OptimizerState(container.tensors(specs))
