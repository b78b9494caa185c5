"""Each robust rule agrees with its paper, written out plainly, with and without weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_compute.errors import RootUpdateMissing
from fed_compute.learning.aggregation import RuleName, aggregate, new_rule
from fed_compute.learning.aggregation.bucketing import drawn_order
from tests.unit.learning.aggregation import references
from tests.unit.learning.aggregation.rounds import Sent, far_apart, sent

CLOSE = 1e-5
Rows = npt.NDArray[np.float64]
RULES: dict[str, tuple[RuleName, dict[str, Any], Callable[[Rows, int], Rows]]] = {
    "median": ("median", {}, lambda x, f: references.median(x)),
    "trimmed mean": ("trimmed_mean", {}, references.trimmed_mean),
    "Krum": ("krum", {}, references.krum),
    "Multi-Krum": ("multi_krum", {}, references.multi_krum),
    "geometric median": (
        "geometric_median",
        {"median_iterations": 8, "median_smoothing": 0.1},
        lambda x, f: references.geometric_median(x, iterations=8, smoothing=0.1),
    ),
    "centered clipping": (
        "centered_clipping",
        {"clip_radius": 5.0, "clip_iterations": 4},
        lambda x, f: references.centered_clipping(x, center=np.zeros(x.shape[1]), radius=5.0, iterations=4),
    ),
    "mean of clipped": ("norm_clipping", {}, lambda x, f: references.clip_to_median(x).mean(axis=0)),
    "FLTrust": ("fltrust", {}, lambda x, f: references.fltrust(x, 0)),
    "NNM, mean": ("fedavg", {"pre": ["nnm"]}, lambda x, f: references.nearest_neighbor_mixing(x, f).mean(axis=0)),
    "NNM, trimmed mean": (
        "trimmed_mean",
        {"pre": ["nnm"]},
        lambda x, f: references.trimmed_mean(references.nearest_neighbor_mixing(x, f), f),
    ),
    "NNM, geometric median": (
        "geometric_median",
        {"pre": ["nnm"], "median_iterations": 3, "median_smoothing": 0.1},
        lambda x, f: references.geometric_median(references.nearest_neighbor_mixing(x, f), iterations=3, smoothing=0.1),
    ),
    "robust": (
        "robust",
        {},
        lambda x, f: references.trimmed_mean(references.nearest_neighbor_mixing(references.clip_to_median(x), f), f),
    ),
}


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=200)
@given(round_=sent())
def test_a_rule_agrees_with_its_paper(name: str, round_: Sent) -> None:
    rule_name, numbers, reference = RULES[name]
    f = min(round_.f, (len(round_.deltas) - 3) // 2)
    found = aggregate(new_rule(rule_name, f=f, **numbers), round_.deltas, root=0)
    assert far_apart(found, reference(round_.exact, f), round_) <= CLOSE


@settings(max_examples=200)
@given(round_=sent(), radius=st.sampled_from([0.1, 1.0, 10.0]), seed=st.integers(0, 2**32))
def test_centered_clipping_starts_from_the_last_result(round_: Sent, radius: float, seed: int) -> None:
    center = np.random.default_rng(seed).standard_normal(round_.deltas.shape[1]).astype(np.float32)
    rule = new_rule("centered_clipping", clip_radius=radius, clip_iterations=2)
    found = aggregate(rule, round_.deltas, center=center)
    wanted = references.centered_clipping(round_.exact, center=center, radius=radius, iterations=2)
    assert float(np.abs(found - wanted).max()) <= CLOSE * max(round_.scale, float(np.linalg.norm(center)))


@settings(max_examples=50)
@given(round_=sent(), seed=st.integers(0, 2**32))
def test_buckets_are_means_of_groups_that_the_seed_makes(round_: Sent, seed: int) -> None:
    """Whoever rebuilds a version must get the same groups. The last group may be smaller and counts for less."""
    order = drawn_order(len(round_.deltas), seed=seed)
    groups = [order[i : i + 3] for i in range(0, len(order), 3)]
    means = [round_.exact[group].mean(axis=0) for group in groups for _ in group]
    rule = new_rule("median", pre=["bucketing"], bucket_size=3)
    found = aggregate(rule, round_.deltas, seed=seed)
    assert far_apart(found, np.median(means, axis=0), round_) <= CLOSE
    assert (found == aggregate(rule, round_.deltas, seed=seed)).all()


def test_another_seed_makes_other_groups_and_each_order_is_as_likely() -> None:
    """A liar who could choose its group could choose its company."""
    orders = [tuple(drawn_order(3, seed=seed)) for seed in range(600)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert min(counts) > 70


# --- weights ------------------------------------------------------------------------------------

COPIES: dict[str, tuple[RuleName, dict[str, Any]]] = {
    "mean": ("fedavg", {}),
    "median": ("median", {}),
    "trimmed mean": ("trimmed_mean", {}),
    "geometric median": ("geometric_median", {"median_iterations": 5, "median_smoothing": 0.1}),
    "centered clipping": ("centered_clipping", {}),
    "mean of clipped": ("norm_clipping", {}),
    "FLTrust": ("fltrust", {}),
    "median of clipped": ("median", {"pre": ["norm_clipping"]}),
}


@pytest.mark.parametrize("name", COPIES)
@settings(max_examples=100)
@given(round_=sent(max_updates=12, max_size=50), seed=st.integers(0, 2**32))
def test_an_update_of_weight_k_counts_like_k_of_it(name: str, round_: Sent, seed: int) -> None:
    rule_name, numbers = COPIES[name]
    n, rng = len(round_.deltas), np.random.default_rng(seed)
    copies = rng.integers(1, 5, size=n)
    copies[0] += -copies.sum() % n  # so that the weight to trim is a whole number of copies
    share = int(copies.sum()) // n
    one = aggregate(new_rule(rule_name, f=round_.f, **numbers), round_.deltas, [float(k) for k in copies], root=0)
    many = aggregate(
        new_rule(rule_name, f=round_.f * share, **numbers), np.repeat(round_.deltas, copies, axis=0), root=0
    )
    assert far_apart(one, many, round_) <= CLOSE


@settings(max_examples=200)
@given(round_=sent(max_updates=12, max_size=50), seed=st.integers(0, 2**32))
def test_weights_decide_how_many_neighbours_are_enough(round_: Sent, seed: int) -> None:
    weights = np.random.default_rng(seed).integers(1, 10, size=len(round_.deltas)).astype(np.float64)
    found = aggregate(new_rule("krum", f=round_.f), round_.deltas, weights)
    assert far_apart(found, references.weighted_krum(round_.exact, weights, round_.f), round_) <= CLOSE
    mixed = references.weighted_nearest_neighbor_mixing(round_.exact, weights, round_.f)
    found = aggregate(new_rule("fedavg", pre=["nnm"], f=round_.f), round_.deltas, weights)
    assert far_apart(found, np.average(mixed, axis=0, weights=weights), round_) <= 5 * CLOSE
    found = aggregate(new_rule("median", pre=["nnm"], f=round_.f), round_.deltas, weights)
    places = np.argsort(mixed, axis=0)
    ends = np.cumsum(weights[places], axis=0)
    middle = (ends <= weights.sum() / 2).sum(axis=0)
    upper = np.take_along_axis(np.sort(mixed, axis=0), middle[None], axis=0)[0]
    lower = np.take_along_axis(np.sort(mixed, axis=0), (ends < weights.sum() / 2).sum(axis=0)[None], axis=0)[0]
    assert far_apart(found, (upper + lower) / 2, round_) <= 5 * CLOSE


def test_liars_of_little_weight_do_not_count_as_many() -> None:
    """Eight strangers say the same; together they hold a fifth of the weight, and three known clients the rest."""
    deltas = np.vstack([np.full((8, 4), 9.0), [[1.0] * 4, [1.1] * 4, [1.2] * 4]]).astype(np.float32)
    weights = [0.25 * 3 / 8] * 8 + [1.0] * 3
    for rule in (new_rule("median"), new_rule("trimmed_mean", f=0.4), new_rule("robust", f=0.4)):
        assert aggregate(rule, deltas).max() > 2
        assert aggregate(rule, deltas, weights).max() <= 1.21


# --- edges --------------------------------------------------------------------------------------


def test_fltrust_needs_a_trusted_update_and_follows_it_alone_when_all_others_turn_away() -> None:
    deltas = np.array([[1.0, 2.0], [-3.0, -6.0], [-1.0, 0.0]], dtype=np.float32)
    with pytest.raises(RootUpdateMissing):
        aggregate(new_rule("fltrust"), deltas)
    assert aggregate(new_rule("fltrust"), deltas, root=0) == pytest.approx([1.0, 2.0])


def test_a_trusted_client_that_wants_no_change_gets_none() -> None:
    deltas = np.array([[0.0, 0.0], [3.0, 6.0]], dtype=np.float32)
    assert (aggregate(new_rule("fltrust"), deltas, root=0) == 0).all()


def test_more_liars_than_a_round_can_bear_are_lowered_to_what_it_can() -> None:
    rule = new_rule("krum", f=5)
    assert [rule.num_liars(n) for n in (1, 4, 5, 9, 12, 13, 50)] == [0, 0, 1, 3, 4, 5, 5]
    assert [new_rule("trimmed_mean").num_liars(n) for n in (4, 5, 9, 10, 100)] == [0, 1, 1, 2, 20]
    assert [new_rule("trimmed_mean", f=3, pre=["bucketing"]).num_liars(n) for n in (4, 6, 13)] == [0, 1, 3]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_weight_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        aggregate(new_rule("median"), np.ones((2, 3), dtype=np.float32), [1.0, weight])
