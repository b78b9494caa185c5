"""From stored updates to the next parameters: a fold that gives the same bytes whenever it is run."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import cast

from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.errors import BlobCorrupt, InvariantBroken, UpdateRefused
from fed_compute.ids import Digest
from fed_compute.learning.aggregation import Aggregator, OptimizerState, WeightedMean, server_optimizer
from fed_compute.protocol.container import TensorSpec, open_container, write_container
from fed_compute.protocol.job import Compression, Encoding
from fed_compute.protocol.models import decode_model, encode_model
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import decode_update
from fed_compute.rounds.records import Job, Update
from fed_compute.storage.blobs import BlobStore

FIRST_CHAIN = "0" * 64


def new_aggregator(job: Job) -> Aggregator:
    """Return an empty aggregator with the job's rule and server optimiser."""
    settings = spec_of(job).aggregation
    optimizer = server_optimizer(
        settings.server_optimizer,
        lr=settings.server_lr,
        momentum=settings.momentum,
        beta1=settings.beta1,
        beta2=settings.beta2,
        tau=settings.tau,
    )
    return Aggregator(WeightedMean(schema_of(job).num_parameters), optimizer)


class RoundFold:
    """Folds the updates of one round, in sequence, as they come.

    Memory: the aggregator (16 bytes a parameter) and one update at a time, however many there are.
    """

    def __init__(self, job: Job, blobs: BlobStore) -> None:
        self._job = job
        self._blobs = blobs
        self._aggregator = new_aggregator(job)
        self._folded: list[Update] = []

    @property
    def last_update_id(self) -> int:
        """The last update folded in, 0 if none."""
        return self._folded[-1].update_id if self._folded else 0

    @property
    def num_updates(self) -> int:
        """Updates folded in so far."""
        return len(self._folded)

    @property
    def num_samples(self) -> int:
        """Samples behind those updates."""
        return self._aggregator.num_samples

    def add(self, updates: Iterable[Update]) -> None:
        """Fold in more updates, which must come in sequence.

        Raises:
            BlobMissing, BlobCorrupt: if a body is not what was accepted. Nothing of it is folded in.
            InvariantBroken: if an update comes out of sequence.
        """
        for update in updates:
            if update.update_id <= self.last_update_id:
                raise InvariantBroken(f"update {update.update_id} comes after {self.last_update_id} in the fold")
            self._aggregator.add(self._delta(update), num_samples=update.num_samples)
            self._folded.append(update)

    def manifest(self) -> str:
        """Return what was folded, as `Version.manifest` is kept."""
        return write_manifest(self._folded)

    def finish(self, model: bytes, optimizer: bytes | None) -> tuple[bytes, bytes | None]:
        """Return the next model file and optimiser state file.

        Raises:
            AggregateNotFinite: if the next parameters would not be finite.
        """
        schema = schema_of(self._job)
        parameters, state = self._aggregator.finish(decode_model(model, schema), _decode_state(optimizer, self._job))
        return encode_model(parameters, schema), _encode_state(state)

    def _delta(self, update: Update) -> Vector:
        schema, body = schema_of(self._job), self._blobs.get(update.digest)
        try:
            return decode_update(
                body,
                num_parameters=schema.num_parameters,
                schema_digest=schema.digest(),
                encoding=cast(Encoding, update.encoding),
                compression=cast(Compression, update.compression),
                topk_fraction=spec_of(self._job).wire.topk_fraction,
            ).delta
        except UpdateRefused as error:
            raise BlobCorrupt(digest=update.digest, got=f"bytes that are not an update: {error.message}") from error


def write_manifest(updates: Sequence[Update]) -> str:
    """Write which updates a version was made from, with digests and weights, in folding order."""
    return json.dumps([[u.update_id, u.digest, u.num_samples] for u in updates], separators=(",", ":"))


def read_manifest(text: str) -> list[tuple[int, Digest, int]]:
    """Read (update id, digest, weight) in folding order.

    Raises:
        InvariantBroken: if it is no manifest: somebody changed it.
    """
    try:
        return [(int(update_id), Digest(digest), int(weight)) for update_id, digest, weight in json.loads(text)]
    except (ValueError, TypeError) as error:
        raise InvariantBroken(f"a version's manifest cannot be read: {text[:80]!r}") from error


def chain_digest(parent: str, *, manifest: str, model: Digest) -> Digest:
    """Return SHA-256 over the parent's chain digest, the manifest's digest and the model's digest."""
    manifest_digest = hashlib.sha256(manifest.encode()).hexdigest()
    return Digest(hashlib.sha256(f"{parent}{manifest_digest}{model}".encode()).hexdigest())


def _encode_state(state: OptimizerState) -> bytes | None:
    if not state.vectors:
        return None
    specs = {name: TensorSpec("F32", vector.shape) for name, vector in state.vectors.items()}
    return write_container(dict(state.vectors), specs=specs, metadata={"format": "fed-compute-optimizer"})


def _decode_state(body: bytes | None, job: Job) -> OptimizerState:
    if body is None:
        return OptimizerState.initial()
    container = open_container(body)
    specs = {name: TensorSpec("F32", (schema_of(job).num_parameters,)) for name in container.records}
    return OptimizerState(container.tensors(specs))
