"""Our rules against those of ByzFL, where it is installed: `pip install --no-deps byzfl`.

It is no dependency: its top level imports torchvision, which the rules do not need, so it is entered by its folder.
The references beside this file say the same and always run.
"""

import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from fed_compute.learning.aggregation import RuleName, aggregate, new_rule
from tests.unit.learning.aggregation.rounds import Sent, far_apart, sent

SPEC = importlib.util.find_spec("byzfl")
pytestmark = pytest.mark.skipif(SPEC is None, reason="byzfl is not installed: pip install --no-deps byzfl")
CLOSE = 1e-5
Rows = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def byzfl() -> Any:
    """The rules of the package, without its top level."""
    assert SPEC is not None
    assert SPEC.origin is not None
    package = types.ModuleType("byzfl")
    package.__path__ = [str(Path(SPEC.origin).parent)]
    sys.modules["byzfl"] = package
    return importlib.import_module("byzfl.aggregators")


RULES: dict[str, tuple[RuleName, dict[str, Any], Callable[[Any, Rows, int], Rows]]] = {
    "average": ("fedavg", {}, lambda b, x, f: b.Average()(x)),
    "median": ("median", {}, lambda b, x, f: b.Median()(x)),
    "trimmed mean": ("trimmed_mean", {}, lambda b, x, f: b.TrMean(f)(x)),
    # there it sums over n-f-1 neighbours, in the paper over n-f-2: what it calls f + 1 is the paper's f
    "Krum": ("krum", {}, lambda b, x, f: b.Krum(f + 1)(x)),
    "geometric median": (
        "geometric_median",
        {"median_iterations": 3, "median_smoothing": 0.1},
        lambda b, x, f: b.GeometricMedian(nu=0.1, T=3)(x),
    ),
    "centered clipping": (
        "centered_clipping",
        {"clip_radius": 5.0, "clip_iterations": 4},
        lambda b, x, f: b.CenteredClipping(L=4, tau=5.0)(x),
    ),
    "clipping, mean": ("norm_clipping", {"clip_norm": 3.0}, lambda b, x, f: b.Average()(b.Clipping(3.0)(x))),
    "NNM, trimmed mean": ("trimmed_mean", {"pre": ["nnm"]}, lambda b, x, f: b.TrMean(f)(b.NNM(f)(x))),
    "NNM, median": ("median", {"pre": ["nnm"]}, lambda b, x, f: b.Median()(b.NNM(f)(x))),
}


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=200)
@given(round_=sent())
def test_a_rule_agrees_with_byzfl(byzfl: Any, name: str, round_: Sent) -> None:
    rule_name, numbers, theirs = RULES[name]
    f = min(round_.f, (len(round_.deltas) - 3) // 2)
    found = aggregate(new_rule(rule_name, f=f, **numbers), round_.deltas)
    assert far_apart(found, theirs(byzfl, round_.exact.copy(), f), round_) <= CLOSE
