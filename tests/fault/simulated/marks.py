"""Marked updates: each is 1 in a place of its own and 0 elsewhere, so a sum of updates tells which are in it.

A round's version is its base plus the weighted mean of its updates. The steps from version to version, each times the
sum of its weights and divided in every place by the weight there, add up to 1 in the place of every update that was
counted once, to 2 where one was counted twice, and to 0 in every other place. The idea is that of the integration
tests of divviup/janus.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.job import Compression, Encoding, JobSpec, parse_job
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import encode_update

NUM_SAMPLES = 10
TOPK_FRACTION = 0.05
STRANGE = 0
"""The place that no honest update has: it is there for updates that must not be counted."""


class Marks:
    """Gives out places, writes marked updates, and knows every body that was ever written."""

    def __init__(self, num_places: int, *, encoding: Encoding = "f32", compression: Compression = "none") -> None:
        self.compression = compression
        self.by_digest: dict[str, int] = {}
        """The place of each body."""
        self._num_parameters = num_places
        self._encoding = encoding
        self._places: dict[str, int] = {}
        self._schema_digest = self.job().schema_of_model().digest()

    def job(self, **rounds: Any) -> JobSpec:
        """Return a job with room for the marks, in which every update counts the same."""
        return parse_job(
            {
                "model": {"name": "linear", "args": {"input_dim": self._num_parameters - 1, "output_dim": 1}},
                "rounds": {"total": 1_000_000, "deadline_seconds": 100, **rounds},
                "aggregation": {"weighting": "equal", "newcomer_share": 1.0},
                "wire": {"encoding": self._encoding, "compression": self.compression, "topk_fraction": TOPK_FRACTION},
            }
        )

    def place(self, owner: str) -> int:
        """Return the place of an owner, a new one when it is named for the first time."""
        place = self._places.setdefault(owner, STRANGE + 1 + len(self._places))
        assert place < self._num_parameters, "there are more updates than places"
        return place

    def body(self, place: int) -> bytes:
        """Return the update of a place as it is sent in the binary form."""
        return self._write(place, self._encoding, self.compression)

    def json_delta(self, place: int) -> list[Any]:
        """Return the update of a place in the JSON form; the coordinator keeps it as uncompressed f32."""
        self._write(place, "f32", "none")
        *weights, bias = self._delta(place).tolist()
        return [[weights], [bias]]

    def _write(self, place: int, encoding: Encoding, compression: Compression) -> bytes:
        body = encode_update(
            self._delta(place),
            encoding=encoding,
            compression=compression,
            topk_fraction=TOPK_FRACTION,
            schema_digest=self._schema_digest,
            num_samples=NUM_SAMPLES,
            loss=None,
            train_seconds=None,
            rng=np.random.default_rng(0),
        )
        self.by_digest[sha256_hex(body)] = place
        return body

    def _delta(self, place: int) -> Vector:
        delta = np.zeros(self._num_parameters, dtype=np.float32)
        delta[place] = 1.0
        return delta


def times_counted(models: Sequence[Vector], weights: Sequence[Sequence[tuple[int, float]]]) -> list[int]:
    """Return how often the update of each place is in a chain of models, the first of which is nobody's work.

    Args:
        models: float32 (P,) each, in the order of their versions.
        weights: the place and the weight of each update that a version says it was made of.

    Raises:
        AssertionError: if a step holds anything but whole marks.
    """
    total = np.zeros(models[0].size)
    for (before, after), parts in zip(pairwise(models), weights[1:], strict=True):
        weight = np.ones(total.size)
        for place, its_own in parts:
            weight[place] = its_own
        total += sum(its_own for _, its_own in parts) / weight * (after.astype(np.float64) - before.astype(np.float64))
    times = np.rint(total)
    np.testing.assert_allclose(total, times, atol=1e-3, err_msg="the models hold something that is no mark")
    return [int(number) for number in times]
