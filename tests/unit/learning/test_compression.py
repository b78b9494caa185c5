"""Error feedback: what was not sent is not lost."""

import numpy as np
import numpy.typing as npt
import pytest

from fed_compute.errors import UpdateNotFinite, UpdateShapeMismatch
from fed_compute.learning.compression import Residual


def coarse(vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A lossy encoding: only the largest value is sent."""
    sent = np.zeros_like(vector)
    place = int(np.argmax(np.abs(vector)))
    sent[place] = vector[place]
    return sent


def test_over_many_rounds_all_that_was_trained_is_sent() -> None:
    """Without feedback nine tenths of each update would be gone."""
    rng = np.random.default_rng(2)
    residual = Residual.initial(10)
    trained, sent = np.zeros(10), np.zeros(10)
    for _ in range(200):
        delta = rng.standard_normal(10).astype(np.float32)
        wanted = residual.compensate(delta)
        arrived = coarse(wanted)
        residual = residual.keep(wanted, arrived)
        trained += delta
        sent += arrived
    np.testing.assert_allclose(sent + residual.unsent, trained, atol=1e-3)
    assert np.abs(residual.unsent).max() < 30


def test_an_exact_encoding_leaves_nothing() -> None:
    residual = Residual.initial(3)
    wanted = residual.compensate(np.array([1, 2, 3], dtype=np.float32))
    assert not residual.keep(wanted, wanted).unsent.any()


def test_a_residual_is_never_changed_in_place() -> None:
    """A refused or lost update must be able to go back to it."""
    residual = Residual(np.array([1.0], dtype=np.float32))
    delta = np.array([2.0], dtype=np.float32)
    wanted = residual.compensate(delta)
    residual.keep(wanted, np.array([0.5], dtype=np.float32))
    assert (wanted.tolist(), residual.unsent.tolist(), delta.tolist()) == ([3.0], [1.0], [2.0])


def test_another_model_s_vector_is_refused() -> None:
    residual = Residual.initial(2)
    three = np.zeros(3, dtype=np.float32)
    two = np.zeros(2, dtype=np.float32)
    with pytest.raises(UpdateShapeMismatch):
        residual.compensate(three)
    with pytest.raises(UpdateShapeMismatch):
        residual.keep(three, two)
    with pytest.raises(UpdateShapeMismatch):
        residual.keep(two, three)


def test_a_residual_never_holds_an_infinity() -> None:
    huge = np.array([3e38], dtype=np.float32)
    with pytest.raises(UpdateNotFinite):
        Residual.initial(1).keep(huge, -huge)
