"""Finding updates that are another client's, bit for bit."""

import numpy as np

from fed_compute.coordinator.folding import stored_delta
from fed_compute.coordinator.update_validator import Admission
from fed_compute.errors import UpdateCopied
from fed_compute.ids import RoundId
from fed_compute.protocol.schema import Vector
from fed_compute.storage.blobs import BlobStore
from fed_compute.storage.sql.store import Records

SAME_NORM = 1e-9
"""Equal values have equal norms, but for the order in which another machine adds up their squares."""


def refuse_copy(
    records: Records, blobs: BlobStore, admission: Admission, delta: Vector, *, norm: float, round_id: RoundId
) -> None:
    """Compare an update, float32 (P,), with the others of equal norm in the round that counts it, value by value.

    Memory: two updates at a time. Cost: nothing is read unless another one has this norm.

    Raises:
        UpdateCopied: if another client's is, bit for bit, the same.
    """
    alike = records.updates.of_norm(round_id, lowest=norm * (1 - SAME_NORM), highest=norm * (1 + SAME_NORM))
    for other in alike:
        if other.client_id != admission.task.client_id and np.array_equal(
            stored_delta(admission.job, blobs, other).view("<u4"), delta.view("<u4")
        ):
            raise UpdateCopied
