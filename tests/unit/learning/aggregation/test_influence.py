"""What an update counts: claims are capped, and newcomers together never outweigh those whom the job knows."""

import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import SampleCountInvalid
from fed_compute.learning.aggregation import Claim, claimed_weight, mean_discount, round_weights
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER, Weighting

DISCOUNTS = st.integers(0, 1000).map(lambda staleness: (1 + staleness) ** -0.5)
CLAIMS = st.lists(st.builds(Claim, st.integers(1, 10_000_000), st.integers(0, 20), DISCOUNTS), min_size=1, max_size=30)
WEIGHTINGS = st.sampled_from(["samples", "equal", "capped"])
SHARES = st.floats(0.01, 1.0)


def known(*counts: int) -> list[Claim]:
    """Claims of clients whom the job knows."""
    return [Claim(count, ESTABLISHED_AFTER) for count in counts]


def new(*counts: int) -> list[Claim]:
    """Claims of newcomers."""
    return [Claim(count, ESTABLISHED_AFTER - 1) for count in counts]


@pytest.mark.parametrize(
    ("weighting", "weights"),
    [("samples", [10, 20, 30, 1000]), ("equal", [1, 1, 1, 1]), ("capped", [10, 20, 30, 40])],
)
def test_claims_count_as_the_job_says(weighting: Weighting, weights: list[float]) -> None:
    """Capped is at twice the median claim, the lower of the two in the middle."""
    assert round_weights(known(10, 20, 30, 1000), weighting=weighting, newcomer_share=0.2) == weights


def test_newcomers_together_hold_their_share_and_keep_their_proportions() -> None:
    weights = round_weights([*known(30, 50), *new(100, 300)], weighting="samples", newcomer_share=0.2)
    assert weights[:2] == [30, 50]
    assert weights[2:] == pytest.approx([5, 15])


def test_newcomers_who_hold_less_anyhow_are_left_alone() -> None:
    assert round_weights([*known(80), *new(20)], weighting="samples", newcomer_share=0.2) == [80, 20]


@pytest.mark.parametrize("claims", [new(5, 10), known(5, 10)])
def test_a_round_of_newcomers_only_or_of_known_clients_only_is_left_alone(claims: list[Claim]) -> None:
    assert round_weights(claims, weighting="samples", newcomer_share=0.2) == [5, 10]


def test_a_share_of_one_switches_the_cap_off() -> None:
    assert round_weights([*known(1), *new(1000)], weighting="samples", newcomer_share=1.0) == [1, 1000]


def test_a_discount_is_taken_off_what_the_claim_counts() -> None:
    claims = [Claim(10, ESTABLISHED_AFTER), Claim(10, ESTABLISHED_AFTER, discount=0.5)]
    assert round_weights(claims, weighting="samples", newcomer_share=0.2) == [10, 5]
    assert round_weights(claims, weighting="equal", newcomer_share=0.2) == [1, 0.5]
    assert claimed_weight(10, weighting="samples", discount=0.5) == 5


def test_claims_are_capped_before_they_are_discounted() -> None:
    """Otherwise a late lie would count in full where the median is stale too."""
    claims = [Claim(10, ESTABLISHED_AFTER), Claim(1000, ESTABLISHED_AFTER, discount=0.5), Claim(10, ESTABLISHED_AFTER)]
    assert round_weights(claims, weighting="capped", newcomer_share=0.2) == [10, 10, 10]


def test_newcomers_hold_their_share_of_what_is_left_after_discounts() -> None:
    claims = [Claim(80, ESTABLISHED_AFTER, discount=0.5), Claim(400, 0)]
    weights = round_weights(claims, weighting="samples", newcomer_share=0.2)
    assert weights == [40, pytest.approx(10)]


@pytest.mark.parametrize("discount", [0.0, -1.0, 1.5, float("nan")])
def test_no_discount_raises_a_weight_or_takes_it_all(discount: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        claimed_weight(1, weighting="equal", discount=discount)


def test_the_mean_discount_is_by_the_weights_without_it() -> None:
    """Three of weight 1, one of them discounted to a half: the three together have lost a sixth."""
    assert mean_discount([1.0, 1.0, 0.5], [1.0, 1.0, 0.5]) == pytest.approx(5 / 6)
    assert mean_discount([3.0, 4.0], [1.0, 1.0]) == 1.0


def test_ten_counted_updates_make_a_client_known() -> None:
    for before, weight in ((ESTABLISHED_AFTER - 1, 0.25), (ESTABLISHED_AFTER, 1.0)):
        claims = [Claim(1, ESTABLISHED_AFTER), Claim(1, before)]
        assert round_weights(claims, weighting="equal", newcomer_share=0.2)[1] == pytest.approx(weight)


@given(CLAIMS, WEIGHTINGS, SHARES)
def test_newcomers_never_hold_more_than_their_share_beside_others(
    claims: list[Claim], weighting: Weighting, share: float
) -> None:
    """In exact arithmetic: a hair above would still be above."""
    weights = round_weights(claims, weighting=weighting, newcomer_share=share)
    parts = {is_new: Fraction(0) for is_new in (True, False)}
    for claim, weight in zip(claims, weights, strict=True):
        parts[claim.counted_before < ESTABLISHED_AFTER] += Fraction(weight)
    if parts[False]:
        assert parts[True] <= Fraction(share) * sum(parts.values()) * (1 + Fraction(1, 2**40))


@given(CLAIMS, WEIGHTINGS, SHARES, st.randoms(use_true_random=False))
def test_weights_are_exact_positive_and_do_not_depend_on_the_order(
    claims: list[Claim], weighting: Weighting, share: float, chance: random.Random
) -> None:
    weights = round_weights(claims, weighting=weighting, newcomer_share=share)
    assert all(weight > 0 and float(np.float32(weight)) == weight for weight in weights)
    order = list(range(len(claims)))
    chance.shuffle(order)
    shuffled = round_weights([claims[i] for i in order], weighting=weighting, newcomer_share=share)
    assert shuffled == [weights[i] for i in order]


@given(CLAIMS, SHARES)
def test_nobody_gains_by_claiming_more_than_twice_the_median(claims: list[Claim], share: float) -> None:
    weights = round_weights(known(*(c.num_samples for c in claims)), weighting="capped", newcomer_share=share)
    assert max(weights) <= 2 * float(np.median([c.num_samples for c in claims]))


@given(st.integers(1, 10_000_000), WEIGHTINGS)
def test_what_is_counted_on_arrival_is_what_a_round_of_one_gives(count: int, weighting: Weighting) -> None:
    alone = round_weights(known(count), weighting=weighting, newcomer_share=0.2)
    assert alone == [claimed_weight(count, weighting=weighting)]


@pytest.mark.parametrize("count", [0, -1, 10_000_001])
@pytest.mark.parametrize("weighting", ["samples", "equal", "capped"])
def test_an_impossible_claim_is_refused_under_every_weighting(count: int, weighting: Weighting) -> None:
    with pytest.raises(SampleCountInvalid):
        claimed_weight(count, weighting=weighting)
