"""What an update of a round must keep to: known before the round's first update, and the same for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.remembered import Remembered
from fed_compute.ids import JobId, RoundId
from fed_compute.learning.privacy import default_max_norm, l2_norm
from fed_compute.protocol.messages import MAX_NUM_SAMPLES
from fed_compute.protocol.models import decode_model
from fed_compute.protocol.schema import Vector
from fed_compute.rounds.limits import RECENT_NORMS, RECENT_ROUNDS, recent_norm_limit
from fed_compute.rounds.records import Job
from fed_compute.storage.model_store import ModelStore
from fed_compute.storage.sql.store import Store

_LIMITS, _MODELS, _ENDED_ROUNDS = 64, 64, 256
"""How many rounds' limits, models' norms and ended rounds' norms are remembered at once."""


@dataclass(frozen=True, slots=True)
class UpdateLimits:
    """The limits of one round's updates. `reason` says where `max_norm`, an L2 norm, comes from."""

    max_norm: float
    reason: str
    max_num_samples: int


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
        self._limits = Remembered[RoundId, UpdateLimits](_LIMITS)
        self._model_norms = Remembered[tuple[JobId, int], float](_MODELS)
        self._ended = Remembered[RoundId, Sequence[float]](_ENDED_ROUNDS)

    def of(self, job: Job, round_id: RoundId) -> UpdateLimits:
        """Return the limits of a round."""
        return self._limits.of(round_id, lambda: self._look_up(job, round_id))

    def is_base_model(self, job: Job, version: int, delta: Vector, norm: float) -> bool:
        """Say whether an update, float32 (P,), of this L2 norm is, bit for bit, a model version itself.

        The first question about a version reads it, and so does each about an update of its norm. Memory: that
        model, for the moment.
        """
        model_norm = self._model_norms.of((job.job_id, version), lambda: l2_norm(self._model(job, version)))
        return norm == model_norm and np.array_equal(delta.view("<u4"), self._model(job, version).view("<u4"))

    def _look_up(self, job: Job, round_id: RoundId) -> UpdateLimits:
        privacy, norms = spec_of(job).privacy, self._recent_norms(job, round_id)
        widest = default_max_norm(schema_of(job).num_parameters)
        fixed = privacy.max_update_norm or self._max_update_norm or widest
        recent = recent_norm_limit(norms) if privacy.adaptive_norm_limit else None
        samples = privacy.max_num_samples or self._max_num_samples or MAX_NUM_SAMPLES
        if recent is None or fixed <= recent:
            return UpdateLimits(fixed, "the fixed limit of this job", samples)
        return UpdateLimits(recent, "what the updates of the last rounds leave room for", samples)

    def _recent_norms(self, job: Job, round_id: RoundId) -> list[float]:
        norms: list[float] = []
        with self._store.snapshot() as records:
            for ended in records.rounds.recent_closed_ids(job.job_id, limit=RECENT_ROUNDS, before=round_id):
                if len(norms) < RECENT_NORMS:
                    norms += self._ended.of(ended, partial(records.updates.norms_of, ended, limit=RECENT_NORMS))
        return norms[:RECENT_NORMS]

    def _model(self, job: Job, version: int) -> Vector:
        with self._store.snapshot() as records:
            digest = records.versions.get(job.job_id, version).digest
        return decode_model(self._models.get(digest), schema_of(job))
