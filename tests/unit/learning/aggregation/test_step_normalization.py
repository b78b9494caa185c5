"""FedNova: a client counts for its samples and not for its steps."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.learning.aggregation import RuleName, WeightedMean, accumulated_steps, aggregate, new_rule
from fed_compute.learning.aggregation.step_normalization import largest_pull

MOMENTA_AND_PULLS = [(0.0, 0.0), (0.9, 0.0), (0.0, 0.3), (0.0, 1.0), (0.5, 0.08), (0.9, 0.0026)]


def coefficients(num_steps: int, momentum: float, pull: float) -> npt.NDArray[np.float64]:
    """Return a_i: how much of each step's gradient is in the way gone, from the definition of the steps."""
    ways = np.zeros((num_steps, num_steps))
    for gradient in range(num_steps):
        way = speed = 0.0
        for step in range(num_steps):
            speed = momentum * speed + (step == gradient) - pull * way
            way += speed
        ways[gradient] = way
    return ways[:, 0]


@pytest.mark.parametrize(("momentum", "pull"), MOMENTA_AND_PULLS)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 17, 64])
def test_what_steps_add_up_to_is_the_sum_of_what_of_each_gradient_is_left(
    num_steps: int, momentum: float, pull: float
) -> None:
    a = coefficients(num_steps, momentum, pull)
    assert (a > -1e-12).all()
    assert accumulated_steps(num_steps, momentum=momentum, pull=pull) == pytest.approx(a.sum(), rel=1e-9)


def test_what_steps_add_up_to_is_what_the_paper_says() -> None:
    """Wang et al. 2020 (arXiv:2007.07481): plain SGD, momentum, and the proximal term."""
    for steps in (1, 5, 400):
        assert accumulated_steps(steps) == steps
        with_momentum = (steps - 0.9 * (1 - 0.9**steps) / 0.1) / 0.1
        assert accumulated_steps(steps, momentum=0.9) == pytest.approx(with_momentum, rel=1e-9)
        assert accumulated_steps(steps, pull=0.2) == pytest.approx((1 - 0.8**steps) / 0.2, rel=1e-9)


@given(st.integers(1, 10**10), st.floats(0, 0.99), st.floats(0, 1))
def test_what_steps_add_up_to_is_a_length(num_steps: int, momentum: float, share: float) -> None:
    found = accumulated_steps(num_steps, momentum=momentum, pull=share * largest_pull(momentum))
    assert 0.999 <= found <= 1.001 * num_steps / (1 - momentum)


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"momentum": 1.0}, {"pull": 1.01}, {"momentum": 0.9, "pull": 0.1}])
def test_what_has_no_length_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no number is known"):
        accumulated_steps(**{"num_steps": 3, **wrong})  # type: ignore[arg-type]


def test_each_update_is_brought_to_the_mean_number_of_steps() -> None:
    """2.5 · (0.25 · 1/1 + 0.75 · 6/3), where 2.5 = 0.25 · 1 + 0.75 · 3; a plain average says 4.75."""
    deltas, weights = np.array([[1.0], [6.0]], dtype=np.float32), [1.0, 3.0]
    assert aggregate(new_rule("fednova"), deltas, weights, steps=[1, 3]) == pytest.approx([4.375], rel=1e-6)
    assert aggregate(new_rule("fedavg"), deltas, weights, steps=[1, 3]) == pytest.approx([4.75], rel=1e-6)


@pytest.mark.parametrize("steps", [None, 1.0, 7.0, 1 / 3])
def test_with_equal_steps_it_is_federated_averaging_bit_for_bit(steps: float | None) -> None:
    rng = np.random.default_rng(0)
    deltas, weights = rng.standard_normal((9, 500)).astype(np.float32), [float(w) for w in rng.integers(1, 99, 9)]
    streamed = WeightedMean(500)
    for delta, weight in zip(deltas, weights, strict=True):
        streamed.add(delta, weight=weight)
    found = aggregate(new_rule("fednova"), deltas, weights, steps=None if steps is None else [steps] * 9)
    assert found.tobytes() == aggregate(new_rule("fedavg"), deltas, weights).tobytes()
    assert found.astype(np.float32).tobytes() == streamed.result().astype(np.float32).tobytes()


def test_a_liar_s_huge_number_of_steps_lengthens_the_round_by_no_more_than_its_weight() -> None:
    deltas = np.ones((5, 3), dtype=np.float32)
    found = aggregate(new_rule("fednova"), deltas, steps=[10, 10, 10, 10, 1e9])
    assert found == pytest.approx(
        [0.8 * 12 / 10] * 3, rel=1e-6
    )  # its own update counts for nothing: 12 = (4 · 10 + 20) / 5


def test_a_liar_s_small_number_of_steps_is_cut_to_the_median_length_behind_it() -> None:
    deltas = np.array([[1.0, 0.0], [1.1, 0.0], [0.9, 0.0], [1.0, 0.1], [0.0, -1.0]], dtype=np.float32)
    steps = [100, 100, 100, 100, 1]
    alone = aggregate(new_rule("fednova"), deltas, steps=steps)
    clipped = aggregate(new_rule("fednova", pre=["norm_clipping"]), deltas, steps=steps)
    assert alone[1] < -15
    assert abs(clipped[1]) < 0.25


@pytest.mark.parametrize("wrong", [[1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_a_number_of_steps_that_is_none_is_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="number of steps must be above 0"):
        aggregate(new_rule("fednova"), np.ones((2, 3), dtype=np.float32), steps=wrong)


@pytest.mark.parametrize(
    ("name", "pre"),
    [("fednova", ["fednova"]), ("fednova", ["norm_clipping", "fednova"]), ("median", ["nnm", "fednova"])],
)
def test_updates_that_something_was_done_to_have_no_number_of_steps(name: RuleName, pre: list[str]) -> None:
    with pytest.raises(ValueError, match="once and before every other step"):
        new_rule(name, pre=pre)  # type: ignore[arg-type]


# --- what it is for -----------------------------------------------------------------------------

OPTIMA, SAMPLES, LOCAL_STEPS = np.array([-3.0, 1.0, 8.0]), [2.0, 1.0, 1.0], [1, 10, 40]
RATE = 1e-3


def learn(name: RuleName, local_steps: Sequence[int], *, momentum: float, pull: float, knows_all: bool = True) -> float:
    """Return where rounds end whose clients each minimise (w - own optimum)² / 2 by SGD."""
    point, rule = 0.0, new_rule(name)
    told = (momentum, pull) if knows_all else (0.0, 0.0)
    lengths = [accumulated_steps(steps, momentum=told[0], pull=told[1]) for steps in local_steps]
    for _ in range(3_000):
        deltas = []
        for optimum, steps in zip(OPTIMA, local_steps, strict=True):
            own, speed = point, 0.0
            for _ in range(steps):
                speed = momentum * speed + (own - optimum) + pull / RATE * (own - point)
                own -= RATE * speed
            deltas.append([own - point])
        point += float(aggregate(rule, np.array(deltas, dtype=np.float32), SAMPLES, steps=lengths)[0])
    return point


@pytest.mark.parametrize(("momentum", "pull"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.2)])
def test_with_uneven_steps_it_finds_the_optimum_that_an_average_misses(momentum: float, pull: float) -> None:
    """The clients' average objective has its optimum at their weighted mean, whoever takes how many steps."""
    right = float(np.average(OPTIMA, weights=SAMPLES))
    uneven, even = LOCAL_STEPS, [5, 5, 5]
    missed = abs(learn("fedavg", uneven, momentum=momentum, pull=pull) - right)
    found = abs(learn("fednova", uneven, momentum=momentum, pull=pull) - right)
    assert missed > 2.0
    assert found < missed / 20
    assert abs(learn("fedavg", even, momentum=momentum, pull=pull) - right) < 0.02


def test_without_the_client_s_pull_in_it_the_optimum_is_missed_again() -> None:
    """Why not simply the number of steps: 40 steps that are pulled back go as far as 5 that are not."""
    right = float(np.average(OPTIMA, weights=SAMPLES))
    known, unknown = (
        abs(learn("fednova", LOCAL_STEPS, momentum=0.0, pull=0.2, knows_all=knows_all) - right)
        for knows_all in (True, False)
    )
    assert unknown > 10 * known
