"""What an update of a round must keep to: known before the round's first update, and the same for all of them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.ids import Digest, JobId, RoundId
from fed_compute.learning.privacy import default_max_norm, l2_norm
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.messages import MAX_NUM_SAMPLES
from fed_compute.protocol.models import decode_model
from fed_compute.protocol.schema import Vector
from fed_compute.rounds.limits import RECENT_NORMS, RECENT_ROUNDS, recent_norm_limit
from fed_compute.rounds.records import Job
from fed_compute.storage.model_store import ModelStore
from fed_compute.storage.sql.store import Store

_KeyT = TypeVar("_KeyT")
_FactT = TypeVar("_FactT")

_REMEMBERED = 64
"""Rounds, and models, that are remembered at once."""


@dataclass(frozen=True, slots=True)
class UpdateLimits:
    """The limits of one round's updates. `reason` says where `max_norm`, an L2 norm, comes from."""

    max_norm: float
    reason: str
    max_num_samples: int


@dataclass(frozen=True, slots=True)
class _Base:
    """How to recognise a model among updates: its L2 norm, and the SHA-256 of its bare values."""

    norm: float
    digest: Digest


class LimitBook:
    """Looks the limits of a round up, once for each round and process: they follow from rounds that have ended."""

    def __init__(
        self, store: Store, models: ModelStore, *, max_update_norm: float | None, max_num_samples: int | None
    ) -> None:
        """Take the operator's limits, which hold for jobs that set none; None stands for the widest."""
        self._store = store
        self._models = models
        self._max_update_norm = max_update_norm
        self._max_num_samples = max_num_samples
        self._limits: dict[RoundId, UpdateLimits] = {}
        self._bases: dict[tuple[JobId, int], _Base] = {}
        self._lock = threading.Lock()

    def of(self, job: Job, round_id: RoundId) -> UpdateLimits:
        """Return the limits of a round."""
        with self._lock:
            return _remembered(self._limits, round_id, lambda: self._look_up(job, round_id))

    def is_base_model(self, job: Job, version: int, delta: Vector, norm: float) -> bool:
        """Say whether an update of this L2 norm is, bit for bit, a model version itself.

        The first question about a version reads it. Memory: that model, for the moment.
        """
        with self._lock:
            base = _remembered(self._bases, (job.job_id, version), lambda: self._read_base(job, version))
        return norm == base.norm and digest_of_values(delta) == base.digest

    def _look_up(self, job: Job, round_id: RoundId) -> UpdateLimits:
        privacy, norms = spec_of(job).privacy, list[float]()
        with self._store.snapshot() as records:
            for ended in records.rounds.recent_closed_ids(job.job_id, limit=RECENT_ROUNDS, before=round_id):
                if len(norms) < RECENT_NORMS:
                    norms += records.updates.norms_of(ended, limit=RECENT_NORMS - len(norms))
        widest = default_max_norm(schema_of(job).num_parameters)
        fixed = privacy.max_update_norm or self._max_update_norm or widest
        recent = recent_norm_limit(norms) if privacy.adaptive_norm_limit else None
        samples = privacy.max_num_samples or self._max_num_samples or MAX_NUM_SAMPLES
        if recent is None or fixed <= recent:
            return UpdateLimits(fixed, "the fixed limit of this job", samples)
        return UpdateLimits(recent, "what the updates of the last rounds leave room for", samples)

    def _read_base(self, job: Job, version: int) -> _Base:
        with self._store.snapshot() as records:
            digest = records.versions.get(job.job_id, version).digest
        values = decode_model(self._models.get(digest), schema_of(job))
        return _Base(l2_norm(values), digest_of_values(values))


def _remembered(known: dict[_KeyT, _FactT], key: _KeyT, find_out: Callable[[], _FactT]) -> _FactT:
    if key not in known:
        fact = find_out()
        while len(known) >= _REMEMBERED:
            del known[next(iter(known))]  # the oldest
        known[key] = fact
    return known[key]


def digest_of_values(vector: Vector) -> Digest:
    """Return the SHA-256 of a vector's values, float32 little-endian, whatever file they came in."""
    return sha256_hex(np.ascontiguousarray(vector, dtype="<f4").data.cast("B"))
