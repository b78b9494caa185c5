"""Parts of one data set: nothing lost, nothing twice, the same on every machine."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.datasets.partition import (
    SMALLEST_PART,
    Rows,
    dirichlet_parts,
    iid_parts,
    sorted_parts,
)
from fed_compute.errors import DatasetInvalid

SEEDS = st.integers(0, 2**32 - 1)


def assert_disjoint_and_complete(parts: list[Rows], count: int) -> None:
    joined = np.concatenate(parts)
    assert len(joined) == count
    assert np.array_equal(np.sort(joined), np.arange(count))


@given(count=st.integers(1, 300), parts=st.integers(1, 40), seed=SEEDS)
def test_iid_parts_are_disjoint_cover_everything_and_have_even_sizes(count: int, parts: int, seed: int) -> None:
    """A sample in two parts would leak one client's data into another's."""
    if count < parts:
        with pytest.raises(DatasetInvalid, match="cannot be cut"):
            iid_parts(count, parts, seed=seed)
        return
    cut = iid_parts(count, parts, seed=seed)
    assert_disjoint_and_complete(cut, count)
    assert max(map(len, cut)) - min(map(len, cut)) <= 1


@given(
    labels=st.lists(st.integers(-3, 12), min_size=1, max_size=200),
    parts=st.integers(1, 30),
    alpha=st.floats(1e-3, 1e3),
    seed=SEEDS,
)
def test_dirichlet_parts_are_disjoint_cover_everything_and_none_is_too_small(
    labels: list[int], parts: int, alpha: float, seed: int
) -> None:
    """A tiny alpha gives whole classes to single clients; the others must still have something to do."""
    if len(labels) < parts:
        with pytest.raises(DatasetInvalid, match="cannot be cut"):
            dirichlet_parts(np.array(labels), parts, alpha=alpha, seed=seed)
        return
    cut = dirichlet_parts(np.array(labels), parts, alpha=alpha, seed=seed)
    assert_disjoint_and_complete(cut, len(labels))
    assert min(map(len, cut)) >= min(SMALLEST_PART, len(labels) // parts)


@given(labels=st.lists(st.integers(-3, 12), min_size=1, max_size=200), parts=st.integers(1, 30), seed=SEEDS)
def test_sorted_parts_are_disjoint_cover_everything_and_follow_the_order_of_labels(
    labels: list[int], parts: int, seed: int
) -> None:
    if len(labels) < parts:
        with pytest.raises(DatasetInvalid, match="cannot be cut"):
            sorted_parts(np.array(labels), parts, seed=seed)
        return
    cut = sorted_parts(np.array(labels), parts, seed=seed)
    assert_disjoint_and_complete(cut, len(labels))
    assert max(map(len, cut)) - min(map(len, cut)) <= 1
    assert np.all(np.diff(np.concatenate([np.sort(np.array(labels)[rows]) for rows in cut])) >= 0)


@given(seed=SEEDS)
def test_the_same_seed_cuts_the_same_parts(seed: int) -> None:
    """Clients cut on their own machines; only the seed makes their parts disjoint."""
    labels = np.arange(100) % 7
    for first, second in [
        (iid_parts(100, 5, seed=seed), iid_parts(100, 5, seed=seed)),
        (dirichlet_parts(labels, 5, alpha=0.3, seed=seed), dirichlet_parts(labels, 5, alpha=0.3, seed=seed)),
        (sorted_parts(labels, 5, seed=seed), sorted_parts(labels, 5, seed=seed)),
    ]:
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_seed_cuts_other_parts() -> None:
    assert not np.array_equal(iid_parts(100, 2, seed=1)[0], iid_parts(100, 2, seed=2)[0])


def test_a_small_alpha_makes_more_uneven_parts_than_a_large_one() -> None:
    """This is what alpha is for."""
    labels = np.arange(2000) % 10

    def unevenness(alpha: float) -> float:
        parts = dirichlet_parts(labels, 5, alpha=alpha, seed=3)
        counts = np.array([np.bincount(labels[rows], minlength=10) for rows in parts])
        return float(counts.std(axis=0).mean())

    assert unevenness(0.1) > 3 * unevenness(100.0)


def test_dirichlet_refuses_targets_that_are_not_classes() -> None:
    with pytest.raises(DatasetInvalid, match="use split=iid"):
        dirichlet_parts(np.array([0.5, 1.5]), 1, alpha=1.0, seed=0)


def test_sorted_mixes_the_samples_of_one_class() -> None:
    """Otherwise one writer's digits would all land with one client, which is a different question."""
    labels = np.zeros(100, dtype=np.int64)
    assert not np.array_equal(sorted_parts(labels, 2, seed=1)[0], np.arange(50))


def test_sorted_refuses_several_labels_a_sample() -> None:
    with pytest.raises(DatasetInvalid, match="use split=iid"):
        sorted_parts(np.zeros((4, 2)), 2, seed=0)
