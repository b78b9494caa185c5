"""A robust rule over updates that come one by one."""

from pathlib import Path

import numpy as np
import pytest

from fed_compute.errors import RoundTooSmall
from fed_compute.learning.aggregation import ArrayMatrix, RobustFold, RoundContext, RuleName, new_rule
from fed_compute.learning.aggregation.robust_fold import cosines_to


def fold_of(name: RuleName, n: int, folder: Path, f: int | float = 0.2) -> RobustFold:
    """Return a round of n updates."""
    fold = RobustFold(new_rule(name, f=f), 4, folder=folder)
    for row in np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32):
        fold.add(row, weight=1)
    return fold


@pytest.mark.parametrize(
    ("name", "f", "least"),
    [
        ("median", 0.2, 3),
        ("trimmed_mean", 1, 3),
        ("trimmed_mean", 0.2, 5),
        ("trimmed_mean", 0, 1),
        ("krum", 1, 5),
        ("krum", 4, 5),  # with fewer liars than asked for, and that is told
        ("multi_krum", 0.1, 10),
        ("geometric_median", 0.2, 3),
        ("centered_clipping", 0.2, 3),
        ("norm_clipping", 0.2, 3),
        ("robust", 0.2, 5),
        ("robust", 1, 5),
        ("fltrust", 0.2, 1),
    ],
)
def test_a_round_too_small_to_bear_a_liar_is_never_silently_averaged(
    name: RuleName, f: int | float, least: int, tmp_path: Path
) -> None:
    for n in range(1, least):
        with pytest.raises(RoundTooSmall, match=f"{name}.*{n} update"):
            fold_of(name, n, tmp_path, f).combine(RoundContext(root=0))
    assert fold_of(name, least, tmp_path, f).combine(RoundContext(root=0)).mean.shape == (4,)


def test_fewer_liars_than_asked_for_are_told() -> None:
    outcome = new_rule("krum", f=4).aggregate(ArrayMatrix(np.eye(7, dtype=np.float32)), np.ones(7))
    assert outcome.num_liars == 2


def test_an_outcome_tells_who_was_left_out_and_who_points_elsewhere(tmp_path: Path) -> None:
    fold = RobustFold(new_rule("multi_krum", f=1), 2, folder=tmp_path)
    for row in ([1.0, 0.0], [1.1, 0.1], [0.9, -0.1], [1.0, 0.1], [-5.0, 0.0]):
        fold.add(np.array(row, dtype=np.float32), weight=1)
    outcome = fold.combine(RoundContext())
    assert outcome.influence is not None
    assert outcome.cosines is not None
    assert outcome.influence.tolist() == [0.25, 0.25, 0.25, 0.25, 0.0]
    assert outcome.cosines.tolist() == pytest.approx([1, 1, 1, 1, -1], abs=0.02)


def test_nothing_points_anywhere_beside_nothing() -> None:
    deltas = np.array([[0, 0], [3, 4]], dtype=np.float32)
    assert cosines_to(np.array([3.0, 4.0]), ArrayMatrix(deltas)).tolist() == [0.0, pytest.approx(1.0)]
    assert cosines_to(np.zeros(2), ArrayMatrix(deltas)).tolist() == [0.0, 0.0]


def test_weights_for_another_number_of_updates_are_refused(tmp_path: Path) -> None:
    fold = fold_of("median", 3, tmp_path)
    for weights in ([1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1 / 3]):
        with pytest.raises(ValueError, match="weight"):
            fold.reweigh(weights, [])
    assert fold.weights == (1.0, 1.0, 1.0)
