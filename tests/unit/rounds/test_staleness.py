"""Staleness weights beside the numbers of the formula, worked out by hand."""

import pytest

from fed_compute.rounds.staleness import default_max_staleness, expected_staleness, staleness_weight


@pytest.mark.parametrize(
    ("staleness", "weight"), [(0, 1.0), (1, 0.70710678), (3, 1 / 2), (8, 1 / 3), (15, 1 / 4), (24, 1 / 5), (99, 1 / 10)]
)
def test_a_stale_update_weighs_one_over_the_root_of_one_plus_its_staleness(staleness: int, weight: float) -> None:
    assert staleness_weight(staleness) == pytest.approx(weight, rel=1e-8)


def test_nothing_starts_from_a_version_of_the_future() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        staleness_weight(-1)


@pytest.mark.parametrize(
    ("concurrency", "buffer_size", "expected", "widest"), [(100, 10, 10.0, 40), (10, 10, 1.0, 4), (3, 10, 0.3, 2)]
)
def test_an_update_may_be_four_times_as_stale_as_is_to_be_expected(
    concurrency: int, buffer_size: int, expected: float, widest: int
) -> None:
    """By Little's law, C leases at once and K updates a version make a staleness of C/K."""
    assert expected_staleness(concurrency=concurrency, buffer_size=buffer_size) == expected
    assert default_max_staleness(concurrency=concurrency, buffer_size=buffer_size) == widest
