"""How long an update may be, as far as the last rounds' updates tell."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.rounds.limits import ENOUGH_NORMS, recent_norm_limit

NORMS = st.lists(st.floats(1e-30, 1e30), min_size=ENOUGH_NORMS, max_size=200)


def test_a_few_updates_tell_nothing() -> None:
    assert recent_norm_limit([1.0] * (ENOUGH_NORMS - 1)) is None
    assert recent_norm_limit([1.0] * ENOUGH_NORMS) == 3.0


def test_two_of_a_hundred_may_be_outliers_without_moving_the_limit() -> None:
    assert recent_norm_limit([1.0] * 98 + [1e9] * 2) == 3.0
    assert recent_norm_limit([5.0] * 97 + [7.0] * 3) == 15.0


def test_small_updates_are_limited_by_their_median_and_not_by_the_one_that_is_added() -> None:
    assert recent_norm_limit([0.001] * 100) == pytest.approx(0.1)


@given(NORMS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(norms: list[float], rng: random.Random) -> None:
    shuffled = rng.sample(norms, len(norms))
    assert recent_norm_limit(shuffled) == recent_norm_limit(norms)


@given(NORMS)
def test_half_of_all_that_were_accepted_would_be_accepted_again(norms: list[float]) -> None:
    limit = recent_norm_limit(norms)
    assert limit is not None
    assert math.isfinite(limit)
    assert sum(norm <= limit for norm in norms) >= len(norms) / 2
