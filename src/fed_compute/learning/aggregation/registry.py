"""Robust rules by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from fed_compute.learning.aggregation.bucketing import Bucketing
from fed_compute.learning.aggregation.centered_clipping import CenteredClipping
from fed_compute.learning.aggregation.fltrust import FLTrust
from fed_compute.learning.aggregation.geometric_median import GeometricMedian
from fed_compute.learning.aggregation.krum import Krum
from fed_compute.learning.aggregation.matrix import ArrayMatrix, Matrix
from fed_compute.learning.aggregation.mean import Mean
from fed_compute.learning.aggregation.median import CoordinateMedian
from fed_compute.learning.aggregation.multi_krum import MultiKrum
from fed_compute.learning.aggregation.nearest_neighbor_mixing import NearestNeighborMixing
from fed_compute.learning.aggregation.norm_clipping import NormClipping
from fed_compute.learning.aggregation.robust_rule import RobustRule
from fed_compute.learning.aggregation.rule import CoordinateRule, GramRule, PreAggregation
from fed_compute.learning.aggregation.trimmed_mean import TrimmedMean
from fed_compute.learning.vectors import Vector, Vector64

RuleName = Literal[
    "fedavg",
    "median",
    "trimmed_mean",
    "krum",
    "multi_krum",
    "geometric_median",
    "centered_clipping",
    "norm_clipping",
    "fltrust",
    "robust",
]
PreName = Literal["norm_clipping", "nnm", "bucketing"]
RULES: tuple[RuleName, ...] = get_args(RuleName)
PRE: tuple[PreName, ...] = get_args(PreName)
_ROBUST: tuple[PreName, ...] = ("norm_clipping", "nnm")


def new_rule(
    name: RuleName,
    *,
    f: int | float = 0.2,
    pre: Sequence[PreName] = (),
    clip_norm: float | None = None,
    clip_radius: float | None = None,
    clip_iterations: int = 3,
    median_iterations: int = 100,
    median_smoothing: float | None = None,
    bucket_size: int = 2,
) -> RobustRule:
    """Return the rule of this name; numbers that it has no use for are ignored.

    `f` is how many updates may lie (a whole number), or their share of the round (a fraction, rounded down).
    `pre` comes first, in order. `robust` is clipping to the median norm, then NNM, then the trimmed mean; what
    `pre` names comes before. None stands for a value that follows the round: the median norm or distance.
    """
    cores: Mapping[RuleName, Callable[[], GramRule | CoordinateRule]] = {
        "fedavg": Mean,
        "median": CoordinateMedian,
        "trimmed_mean": TrimmedMean,
        "krum": Krum,
        "multi_krum": MultiKrum,
        "geometric_median": lambda: GeometricMedian(median_iterations, median_smoothing),
        "centered_clipping": lambda: CenteredClipping(clip_radius, clip_iterations),
        "norm_clipping": Mean,
        "fltrust": FLTrust,
        "robust": TrimmedMean,
    }
    steps: Mapping[PreName, Callable[[], PreAggregation]] = {
        "norm_clipping": lambda: NormClipping(clip_norm),
        "nnm": NearestNeighborMixing,
        "bucketing": lambda: Bucketing(bucket_size),
    }
    own: tuple[PreName, ...] = _ROBUST if name == "robust" else ("norm_clipping",) if name == "norm_clipping" else ()
    floors: Mapping[RuleName, int] = {"robust": 5, "norm_clipping": 3 if clip_norm is None else 1}
    return RobustRule(name, cores[name](), tuple(steps[step]() for step in (*pre, *own)), f, floors.get(name, 1))


def aggregate(
    rule: RobustRule,
    deltas: Matrix,
    weights: Sequence[float] | Vector64 | None = None,
    *,
    center: Vector | None = None,
    root: int | None = None,
    seed: int = 0,
) -> Vector64:
    """Combine updates that lie in memory, float32 (n, P), into one, float64 (P,). Without weights all count the same.

    `center`, `root` and `seed` as in `RobustRule.aggregate`, which also tells how it came about.

    Raises:
        UpdateRefused: if an update is not finite or there is none.
        RootUpdateMissing: if the rule is FLTrust and no `root` is given.
    """
    matrix = ArrayMatrix(deltas)
    counted = np.ones(matrix.num_updates) if weights is None else np.asarray(weights, dtype=np.float64)
    return rule.aggregate(matrix, counted, center=center, root=root, seed=seed).mean
