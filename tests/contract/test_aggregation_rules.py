"""What every aggregation rule promises, whatever its formula."""

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fed_compute.errors import NothingToAggregate, UpdateNotFinite, UpdateShapeMismatch
from fed_compute.learning.aggregation import (
    AggregationRule,
    ArrayMatrix,
    RobustFold,
    RoundContext,
    WeightedMean,
    aggregate,
    new_rule,
)

Rows = npt.NDArray[np.float32]
N, F, SIZE = 15, 3, 300
STEPS = tuple(float(1 + k % 4) for k in range(N))
CONTEXT = RoundContext(root=0, steps=STEPS, seed=7)


@dataclass(frozen=True)
class Case:
    """One rule with its numbers; `bears_liars` says whether it promises to."""

    name: Any
    numbers: dict[str, Any] = field(default_factory=dict)
    bears_liars: bool = True

    @property
    def rule(self) -> Any:
        """The rule, told of `F` liars."""
        return new_rule(self.name, f=F, **self.numbers)


CASES = {
    "median": Case("median"),
    "trimmed mean": Case("trimmed_mean"),
    "Krum": Case("krum"),
    "Multi-Krum": Case("multi_krum"),
    "geometric median": Case("geometric_median"),
    "centered clipping": Case("centered_clipping", {"clip_iterations": 20}),
    "clipped mean": Case("norm_clipping", bears_liars=False),
    "FLTrust": Case("fltrust"),
    "robust": Case("robust"),
    "NNM, median": Case("median", {"pre": ["nnm"]}),
    "NNM, Krum": Case("krum", {"pre": ["nnm"]}),
    "buckets, median": Case("median", {"pre": ["bucketing"]}),
    "clipping, buckets, centered clipping": Case(
        "centered_clipping", {"pre": ["norm_clipping", "bucketing"], "clip_iterations": 20}
    ),
    "clipping, buckets, NNM, trimmed mean": Case("trimmed_mean", {"pre": ["norm_clipping", "bucketing", "nnm"]}),
    "mean of mixed": Case("fedavg", {"pre": ["nnm"]}, bears_liars=False),
    "mean": Case("fedavg", bears_liars=False),
    "FedNova": Case("fednova", bears_liars=False),
    "FedNova, robust": Case("robust", {"pre": ["fednova"]}),
}
EVERY_RULE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
MakeRule = Callable[[int], AggregationRule]


@pytest.fixture(params=["streamed mean", *CASES])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeRule:
    """How to begin a round under each rule, as the coordinator does."""
    if request.param == "streamed mean":
        return WeightedMean
    return lambda size: RobustFold(CASES[request.param].rule, size, folder=tmp_path)


def honest(seed: int, *, n: int = N, size: int = SIZE) -> Rows:
    """Updates that differ and yet have a direction in common."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(size) + 0.5 * rng.standard_normal((n, size))).astype(np.float32)


def filled(rule: AggregationRule, deltas: Rows, weights: list[float] | None = None) -> AggregationRule:
    """Give a rule its updates."""
    for delta, weight in zip(deltas, weights or [1.0] * len(deltas), strict=True):
        rule.add(delta, weight=weight)
    return rule


@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
def test_the_order_does_not_matter(make: MakeRule, weighted: bool) -> None:
    """Clients race; the model they make must not depend on who wins. The trusted client is known by name."""
    for seed in range(5):
        deltas, rng = honest(seed), np.random.default_rng(seed)
        weights = [float(k) for k in rng.integers(1, 9, size=N)] if weighted else [1.0] * N
        order = rng.permutation(N)
        one = filled(make(SIZE), deltas, weights).combine(RoundContext(root=0, steps=STEPS)).mean
        shuffled = filled(make(SIZE), deltas[order], [weights[i] for i in order])
        root = int(np.flatnonzero(order == 0)[0])
        if not draws_groups(shuffled):  # by place
            context = RoundContext(root=root, steps=tuple(STEPS[i] for i in order))
            np.testing.assert_allclose(shuffled.combine(context).mean, one, rtol=0, atol=2e-5)


def draws_groups(rule: AggregationRule) -> bool:
    """Say whether a rule puts updates together by chance."""
    return isinstance(rule, RobustFold) and any(step.num_rows(10) < 10 for step in rule._rule.pre)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30), copies=st.integers(1, 12))
def test_one_update_or_many_that_are_equal_come_back(make: MakeRule, values: list[float], copies: int) -> None:
    delta = np.array(values, dtype=np.float32)
    rule = make(delta.size)
    if isinstance(rule, RobustFold):  # the mathematics alone: the fold refuses a round too small to bear a liar
        found = aggregate(rule._rule, np.tile(delta, (copies, 1)), root=0)
    else:
        found = filled(rule, np.tile(delta, (copies, 1))).combine(CONTEXT).mean
    np.testing.assert_allclose(found, delta, rtol=1e-5, atol=1e-5 * float(np.abs(delta).max()))


def nan_in(delta: Rows) -> Rows:
    """Spoil the last value."""
    return np.append(delta[:-1], np.float32("nan")).astype(np.float32)


REFUSED: dict[str, tuple[Callable[[Rows], Any], float, type[Exception]]] = {
    "NaN": (nan_in, 1.0, UpdateNotFinite),
    "another shape": (lambda delta: delta[:-1], 1.0, UpdateShapeMismatch),
    "a matrix": (lambda delta: delta[None], 1.0, UpdateShapeMismatch),
    "a wider type": (lambda delta: delta.astype(np.float64), 1.0, TypeError),
    "no weight": (lambda delta: delta, 0.0, ValueError),
    "a negative weight": (lambda delta: delta, -1.0, ValueError),
    "an endless weight": (lambda delta: delta, float("inf"), ValueError),
    "a weight of too many bits": (lambda delta: delta, 0.1, ValueError),
}


@pytest.mark.parametrize("bad", REFUSED)
def test_a_refused_update_leaves_no_trace(make: MakeRule, bad: str) -> None:
    spoil, weight, error = REFUSED[bad]
    deltas = honest(1)
    rule = filled(make(SIZE), deltas)
    before = rule.combine(CONTEXT).mean.tobytes(), rule.num_updates, rule.weights
    with pytest.raises(error):
        rule.add(spoil(deltas[0]), weight=weight)
    assert (rule.combine(CONTEXT).mean.tobytes(), rule.num_updates, rule.weights) == before


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("bad", REFUSED)
def test_nor_do_those_that_came_with_it(make: MakeRule, bad: str, place: int) -> None:
    spoil, weight, error = REFUSED[bad]
    deltas = honest(1)
    rule = filled(make(SIZE), deltas)
    before = rule.combine(CONTEXT).mean.tobytes(), rule.num_updates, rule.weights
    some, weights = [*deltas[:2]], [2.0, 3.0]
    some.insert(place, spoil(deltas[2]))
    weights.insert(place, weight)
    with pytest.raises(error):
        rule.add_all(some, weights=weights)
    assert (rule.combine(CONTEXT).mean.tobytes(), rule.num_updates, rule.weights) == before


def test_updates_that_come_together_count_as_if_they_came_one_by_one(make: MakeRule) -> None:
    deltas, weights = honest(6), [float(1 + k % 3) for k in range(N)]
    together = make(SIZE)
    together.add_all(list(deltas[:4]), weights=weights[:4])
    together.add_all(list(deltas[4:]), weights=weights[4:])
    alone = filled(make(SIZE), deltas, weights)
    assert together.weights == alone.weights
    assert together.combine(CONTEXT).mean.tobytes() == alone.combine(CONTEXT).mean.tobytes()


def test_a_round_without_updates_makes_nothing(make: MakeRule) -> None:
    with pytest.raises(NothingToAggregate):
        make(3).combine(CONTEXT)


def test_the_sender_s_array_is_neither_changed_nor_kept(make: MakeRule) -> None:
    deltas = honest(2)
    kept = deltas.copy()
    rule = filled(make(SIZE), deltas)
    before = rule.combine(CONTEXT).mean.tobytes()
    assert (deltas == kept).all()
    deltas[:] = 99
    assert rule.combine(CONTEXT).mean.tobytes() == before


def test_other_weights_count_as_if_they_had_been_there_from_the_start(make: MakeRule) -> None:
    deltas, weights = honest(3), [float(k) for k in range(1, N + 1)]
    rule = filled(make(SIZE), deltas)
    rule.reweigh(weights, iter(deltas))
    assert rule.weights == tuple(weights)
    assert rule.combine(CONTEXT).mean.tobytes() == filled(make(SIZE), deltas, weights).combine(CONTEXT).mean.tobytes()


def test_a_second_fold_gives_the_same_bytes(make: MakeRule) -> None:
    """Who takes over from a worker that died must make the same version."""
    deltas, weights = honest(4, size=5_000), [float(1 + k % 3) for k in range(N)]
    once, again = (filled(make(5_000), deltas, weights).combine(CONTEXT).mean.tobytes() for _ in range(2))
    assert once == again


@EVERY_RULE
def test_updates_in_a_file_are_combined_like_those_in_memory(case: Case, tmp_path: Path) -> None:
    deltas, weights = honest(5, size=5_000), [float(1 + k % 3) for k in range(N)]
    kept = filled(RobustFold(case.rule, 5_000, folder=tmp_path), deltas, weights).combine(CONTEXT)
    direct = case.rule.aggregate(ArrayMatrix(deltas), np.array(weights), CONTEXT)
    assert kept.mean.tobytes() == direct.mean.tobytes()


LIES: dict[str, Callable[[Rows, np.random.Generator], Rows]] = {
    "scaled a million times": lambda good, rng: 1e6 * good[:F],
    "flipped and scaled": lambda good, rng: -100 * good[:F],
    "all the same, far away": lambda good, rng: np.full((F, SIZE), 1e4),
    "noise": lambda good, rng: 1e3 * rng.standard_normal((F, SIZE)),
    "giants in one place": lambda good, rng: np.where(np.arange(SIZE) == 7, np.float32(1e30), good[:F]),
    "the mean turned round": lambda good, rng: np.tile(-2 * good.mean(axis=0), (F, 1)),
}


@pytest.mark.parametrize("lie", LIES)
@EVERY_RULE
def test_f_liars_do_not_carry_the_result_out_of_the_honest_range(case: Case, lie: str) -> None:
    """Not further from the honest mean than honest updates are from each other; a plain mean goes anywhere."""
    for seed in range(3):
        good = honest(seed, n=N - F)
        deltas = np.vstack([good, LIES[lie](good, np.random.default_rng(seed))]).astype(np.float32)
        result = aggregate(case.rule, deltas, root=0)
        center = good.astype(np.float64).mean(axis=0)
        diameter = max(float(np.linalg.norm(row - good, axis=1).max()) for row in good.astype(np.float64))
        if case.bears_liars:
            assert np.linalg.norm(result - center) <= diameter
        elif case.name == "norm_clipping":
            assert np.linalg.norm(result) <= np.linalg.norm(good, axis=1).max() * (1 + 1e-6)
        elif "giants" in lie or "scaled" in lie:
            assert np.linalg.norm(result - center) > 3 * diameter


def test_each_parameter_stays_between_honest_values_under_rules_that_go_by_parameter() -> None:
    for seed in range(10):
        rng, good = np.random.default_rng(seed), honest(seed, n=N - F)
        lies = (10.0 ** rng.integers(-3, 9, size=(F, 1)) * rng.standard_normal((F, SIZE))).astype(np.float32)
        deltas = np.vstack([good, lies]).astype(np.float32)
        for name in ("median", "trimmed_mean"):
            result = aggregate(new_rule(name, f=F), deltas)  # type: ignore[arg-type]
            assert (good.min(axis=0) <= result).all()
            assert (result <= good.max(axis=0)).all()


@EVERY_RULE
def test_memory_does_not_grow_with_the_model_beyond_the_result(case: Case, tmp_path: Path) -> None:
    """Updates lie in the file; blocks of them, and 8 bytes a parameter, lie in memory."""
    above: dict[int, int] = {}
    for size in (20_000, 100_000):
        rule = filled(RobustFold(case.rule, size, folder=tmp_path), honest(6, size=size))
        rule.combine(CONTEXT)  # what is loaded once is no growth
        tracemalloc.start()
        rule.combine(CONTEXT)
        above[size] = tracemalloc.get_traced_memory()[1] - 8 * size
        tracemalloc.stop()
    assert max(above.values()) <= min(above.values()) + 100_000
    assert max(above.values()) <= 2_048 * N * 8 * 12


@EVERY_RULE
def test_what_is_in_the_result_is_told(case: Case) -> None:
    """The influence of each update, where a rule has one, makes up the result by itself."""
    deltas = honest(8)
    outcome = case.rule.aggregate(ArrayMatrix(deltas), np.ones(N), CONTEXT)
    if outcome.influence is None:
        assert case.name in ("median", "trimmed_mean", "robust")
    elif case.name != "centered_clipping":  # which keeps some of where it started
        np.testing.assert_allclose(outcome.influence @ deltas.astype(np.float64), outcome.mean, atol=1e-9)
    assert outcome.num_liars == (F if case.rule.uses_num_liars else outcome.num_liars)
