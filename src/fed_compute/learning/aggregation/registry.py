"""Robust rules by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from fed_compute.learning.aggregation.bucketing import Bucketing
from fed_compute.learning.aggregation.centered_clipping import CenteredClipping
from fed_compute.learning.aggregation.context import RoundContext
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
from fed_compute.learning.aggregation.step_normalization import StepNormalization
from fed_compute.learning.aggregation.trimmed_mean import TrimmedMean
from fed_compute.learning.vectors import Vector, Vector64

RuleName = Literal[
    "fedavg",
    "fednova",
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
PreName = Literal["fednova", "norm_clipping", "nnm", "bucketing"]
RULES: tuple[RuleName, ...] = get_args(RuleName)
PRE: tuple[PreName, ...] = get_args(PreName)
_OWN: Mapping[RuleName, tuple[PreName, ...]] = {"norm_clipping": ("norm_clipping",), "robust": ("norm_clipping", "nnm")}


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
    `pre` names comes before. `fednova` is the mean of normalised updates. That step comes once and before all others,
    since an update's steps are known only as long as nothing was done to it. None stands for a value that follows the
    round: the median norm or distance.

    Raises:
        ValueError: if `fednova` comes later, or twice.
    """
    cores: Mapping[RuleName, Callable[[], GramRule | CoordinateRule]] = {
        "fedavg": Mean,
        "fednova": Mean,
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
        "fednova": StepNormalization,
        "norm_clipping": lambda: NormClipping(clip_norm),
        "nnm": NearestNeighborMixing,
        "bucketing": lambda: Bucketing(bucket_size),
    }
    first: tuple[PreName, ...] = ("fednova",) if name == "fednova" else ()
    order = (*first, *pre, *_OWN.get(name, ()))
    if "fednova" in order[1:]:
        raise ValueError("fednova comes once and before every other step")
    floors: Mapping[RuleName, int] = {"robust": 5, "norm_clipping": 3 if clip_norm is None else 1}
    return RobustRule(name, cores[name](), tuple(steps[step]() for step in order), f, floors.get(name, 1))


def aggregate(
    rule: RobustRule,
    deltas: Matrix,
    weights: Sequence[float] | Vector64 | None = None,
    *,
    center: Vector | None = None,
    root: int | None = None,
    steps: Sequence[float] | None = None,
    seed: int = 0,
) -> Vector64:
    """Combine updates that lie in memory, float32 (n, P), into one, float64 (P,). Without weights all count the same.

    `center`, `root`, `steps` and `seed` as in `RoundContext`; `RobustRule.aggregate` also tells how it came about.

    Raises:
        UpdateRefused: if an update is not finite or there is none.
        RootUpdateMissing: if the rule is FLTrust and no `root` is given.
    """
    matrix = ArrayMatrix(deltas)
    counted = np.ones(matrix.num_updates) if weights is None else np.asarray(weights, dtype=np.float64)
    context = RoundContext(center, root, None if steps is None else tuple(steps), seed)
    return rule.aggregate(matrix, counted, context).mean
