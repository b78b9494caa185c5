"""The PrivacyProtector: finite and bounded, on both sides with the same ruler."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fed_compute.errors import UpdateAllZero, UpdateNormTooLarge, UpdateNotFinite
from fed_compute.learning.privacy import PrivacyProtector, clip_to_norm, default_max_norm, l2_norm, tighter_norm
from fed_compute.learning.vectors import BLOCK

VECTORS = hnp.arrays(
    np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@given(VECTORS)
def test_the_norm_is_right_for_every_finite_vector(vector: npt.NDArray[np.float32]) -> None:
    """Largest and smallest floats included: their squares fit float64."""
    assert l2_norm(vector) == pytest.approx(math.hypot(*vector.tolist()), rel=1e-12)


@given(VECTORS, st.floats(min_value=1e-45, max_value=1e39))
def test_what_the_client_clipped_passes_the_server_s_check(vector: npt.NDArray[np.float32], limit: float) -> None:
    """An honest client must never be refused for a rounding error."""
    clipped = PrivacyProtector.clip(vector, limit)
    if clipped.any():
        assert PrivacyProtector(limit).check(clipped) <= limit


@given(hnp.arrays(np.float32, 8, elements=st.floats(-1e3, 1e3, width=32).filter(lambda x: abs(x) > 1e-3)))
def test_clipping_keeps_the_direction_and_reaches_the_limit(vector: npt.NDArray[np.float32]) -> None:
    limit = l2_norm(vector) / 3
    clipped = clip_to_norm(vector, limit)
    np.testing.assert_allclose(clipped.astype(np.float64) * 3, vector, rtol=1e-6)
    assert l2_norm(clipped) == pytest.approx(limit, rel=1e-6)


def test_a_short_vector_is_not_touched() -> None:
    vector = np.array([3, 4], dtype=np.float32)
    assert clip_to_norm(vector, 5.0) is vector


def test_clipping_changes_the_whole_vector_and_not_the_argument() -> None:
    vector = np.full(BLOCK + 1, 2, dtype=np.float32)
    clipped = clip_to_norm(vector, 1.0)
    assert np.unique(clipped).size == 1
    assert (vector == 2).all()


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_an_unusable_limit_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="max_norm"):
        clip_to_norm(np.ones(1, dtype=np.float32), limit)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_place(bad: float) -> None:
    vector = np.zeros(BLOCK + 5, dtype=np.float32)
    vector[[BLOCK + 1, BLOCK + 3]] = bad
    for refuse in (PrivacyProtector().check, lambda delta: PrivacyProtector.clip(delta, 1.0)):
        with pytest.raises(UpdateNotFinite) as caught:
            refuse(vector)
        assert caught.value.details == {"count": 2, "first": BLOCK + 1}


@given(st.integers(1, 50), st.sampled_from([0.0, -0.0]))
def test_an_update_of_zeros_is_refused(size: int, zero: float) -> None:
    with pytest.raises(UpdateAllZero, match=f"all {size} values"):
        PrivacyProtector().check(np.full(size, zero, dtype=np.float32))


def test_the_smallest_number_there_is_makes_an_update() -> None:
    vector = np.zeros(BLOCK + 1, dtype=np.float32)
    vector[-1] = np.float32(1e-45)
    assert PrivacyProtector().check(vector) > 0


@pytest.mark.parametrize("bits", [0x7F800001, 0xFFBFFFFF, 0x7FC00000, 0xFFFFFFFF], ids=hex)
def test_every_kind_of_nan_is_refused(bits: int) -> None:
    """Quiet, signalling, with a payload, negative; numpy's warnings are errors here."""
    vector = np.array([1, bits], dtype="<u4").view("<f4")
    with pytest.raises(UpdateNotFinite):
        PrivacyProtector().check(vector)


def test_without_a_limit_of_the_job_the_hard_cap_holds() -> None:
    assert default_max_norm(100) == 100.0
    assert PrivacyProtector().check(np.full(100, 10, dtype=np.float32)) == 100.0
    with pytest.raises(UpdateNormTooLarge, match=r"is 110, the limit is 100"):
        PrivacyProtector().check(np.full(100, 11, dtype=np.float32))


def test_a_limit_of_the_job_replaces_the_hard_cap_both_ways() -> None:
    long = np.full(100, 11, dtype=np.float32)
    assert PrivacyProtector(200.0).check(long) == pytest.approx(110)
    with pytest.raises(UpdateNormTooLarge):
        PrivacyProtector(1.0).check(np.full(100, 1, dtype=np.float32))


def test_two_floats_whose_squares_overflow_float32_are_measured() -> None:
    assert l2_norm(np.array([3e38, 3e38], dtype=np.float32)) == pytest.approx(3e38 * math.sqrt(2), rel=1e-6)


@pytest.mark.parametrize(
    ("limits", "smallest"),
    [((), None), ((None, None), None), ((None, 2.0), 2.0), ((1.0, 2.0), 1.0), ((3.0, None, 2.0), 2.0)],
)
def test_of_several_limits_on_the_norm_the_smallest_holds(
    limits: tuple[float | None, ...], smallest: float | None
) -> None:
    assert tighter_norm(*limits) == smallest
