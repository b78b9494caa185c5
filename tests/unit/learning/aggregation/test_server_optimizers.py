"""Each server optimiser against a literal transcription of its paper, number by number."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fed_compute.errors import AggregateNotFinite, OptimizerStateMismatch, UpdateShapeMismatch
from fed_compute.learning.aggregation import OptimizerState, ServerOptimizer, ServerSGD, server_optimizer
from fed_compute.learning.aggregation.server_optimizers import STEP_BLOCK, ServerOptimizerName

NAMES: tuple[ServerOptimizerName, ...] = ("sgd", "momentum", "adam", "yogi", "adagrad")
LR, MOMENTUM, BETA1, BETA2, TAU = 0.1, 0.9, 0.8, 0.95, 1e-2


def optimizer(name: ServerOptimizerName, lr: float = LR) -> ServerOptimizer:
    return server_optimizer(name, lr=lr, momentum=MOMENTUM, beta1=BETA1, beta2=BETA2, tau=TAU)


@dataclass
class Reference:
    """Hsu et al. 2019 and Reddi et al. 2021 (Algorithm 2), one Python float at a time."""

    name: str
    m: dict[int, float] = field(default_factory=dict)
    v: dict[int, float] = field(default_factory=dict)

    def step(self, x: list[float], delta: list[float]) -> list[float]:
        return [self.step_one(i, x[i], delta[i]) for i in range(len(x))]

    def step_one(self, i: int, x: float, delta: float) -> float:
        if self.name == "sgd":
            return x + LR * delta
        if self.name == "momentum":
            self.m[i] = MOMENTUM * self.m.get(i, 0.0) + delta
            return x + LR * self.m[i]
        self.m[i] = BETA1 * self.m.get(i, 0.0) + (1 - BETA1) * delta
        v = self.v.get(i, TAU**2)
        if self.name == "adagrad":
            v = v + delta**2
        elif self.name == "yogi":
            v = v - (1 - BETA2) * delta**2 * (1 if v > delta**2 else -1 if v < delta**2 else 0)
        elif self.name == "adam":
            v = BETA2 * v + (1 - BETA2) * delta**2
        self.v[i] = v
        return x + LR * self.m[i] / (math.sqrt(v) + TAU)


def deltas(steps: int) -> list[npt.NDArray[np.float64]]:
    """Mean updates of 200 values whose magnitudes range over six decades."""
    rng = np.random.default_rng(7)
    return [rng.standard_normal(200) * 10.0 ** rng.integers(-4, 2, size=200) for _ in range(steps)]


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_every_step_agrees_with_the_paper(name: ServerOptimizerName) -> None:
    """To 1e-6 relative. The reference goes on from the stored float32 values, so errors cannot add up or cancel."""
    reference, state = Reference(name), OptimizerState.initial()
    parameters = np.linspace(-2, 2, 200, dtype=np.float32)
    for delta in deltas(8):
        wanted = reference.step(parameters.tolist(), delta.tolist())
        parameters, state = optimizer(name).step(parameters, delta, state)
        np.testing.assert_allclose(parameters, wanted, rtol=1e-6, atol=1e-8)
        for memory, vector in state.vectors.items():
            np.testing.assert_allclose(vector, list(getattr(reference, memory).values()), rtol=1e-6, atol=1e-12)
            setattr(reference, memory, dict(enumerate(vector.tolist())))


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_training_agrees_with_the_paper(name: ServerOptimizerName) -> None:
    """To 1e-6 of the vector's length after twenty steps, against a reference that never rounds to float32."""
    reference, state = Reference(name), OptimizerState.initial()
    parameters = np.linspace(-2, 2, 200, dtype=np.float32)
    wanted = parameters.tolist()
    for delta in deltas(20):
        wanted = reference.step(wanted, delta.tolist())
        parameters, state = optimizer(name).step(parameters, delta, state)
    assert np.linalg.norm(parameters - np.array(wanted)) <= 1e-6 * np.linalg.norm(wanted)


def test_yogi_forgets_slower_than_adam_after_a_large_update() -> None:
    """That is what Yogi is for: v moves by a step of bounded size."""
    zeros, large, small = np.zeros(1, dtype=np.float32), np.array([10.0]), np.array([1e-3])
    v = {}
    for name in ("adam", "yogi"):
        _, state = optimizer(name).step(zeros, large, OptimizerState.initial())
        for _ in range(20):
            _, state = optimizer(name).step(zeros, small, state)
        v[name] = float(state.vectors["v"][0])
    assert v["yogi"] > 2 * v["adam"]


@pytest.mark.parametrize("name", NAMES)
@given(
    parameters=hnp.arrays(np.float32, 5, elements=st.floats(-1e6, 1e6, width=32)),
    delta=hnp.arrays(np.float64, 5, elements=st.floats(-1e6, 1e6)),
)
def test_no_argument_is_changed_and_equal_arguments_give_equal_bits(
    name: ServerOptimizerName, parameters: npt.NDArray[np.float32], delta: npt.NDArray[np.float64]
) -> None:
    _, state = optimizer(name).step(parameters, delta, OptimizerState.initial())
    given_arrays: list[npt.NDArray[Any]] = [parameters, delta, *state.vectors.values()]
    before = [array.tobytes() for array in given_arrays]
    first, second = optimizer(name).step(parameters, delta, state), optimizer(name).step(parameters, delta, state)
    assert [array.tobytes() for array in given_arrays] == before
    assert first[0].tobytes() == second[0].tobytes()
    assert first[0].dtype == np.float32
    assert {k: v.tobytes() for k, v in first[1].vectors.items()} == {
        k: v.tobytes() for k, v in second[1].vectors.items()
    }
    assert all(vector.dtype == np.float32 for vector in first[1].vectors.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_model_longer_than_a_block_steps_like_a_short_one(name: ServerOptimizerName) -> None:
    rng = np.random.default_rng(3)
    x, delta = rng.standard_normal(STEP_BLOCK + 2).astype(np.float32), rng.standard_normal(STEP_BLOCK + 2)
    whole, _ = optimizer(name).step(x, delta, OptimizerState.initial())
    end, _ = optimizer(name).step(x[-4:], delta[-4:], OptimizerState.initial())
    assert whole[-4:].tobytes() == end.tobytes()


def test_a_rate_of_one_and_sgd_is_federated_averaging() -> None:
    x, _ = ServerSGD().step(np.array([1, 2], dtype=np.float32), np.array([0.5, -1.0]), OptimizerState.initial())
    assert x.tolist() == [1.5, 1.0]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_that_would_overflow_are_an_error_and_not_a_version(name: ServerOptimizerName) -> None:
    x, delta = np.array([0.0, 3e38], dtype=np.float32), np.array([0.0, 3e38])
    with pytest.raises(AggregateNotFinite, match=r"1 value.* position 1"):
        optimizer(name, lr=1e38).step(x, delta, OptimizerState.initial())


@pytest.mark.parametrize("name", ["adam", "yogi", "adagrad"])
def test_a_memory_that_would_overflow_is_an_error(name: ServerOptimizerName) -> None:
    """Otherwise v would be infinite for ever, and the parameter would silently never move again."""
    with pytest.raises(AggregateNotFinite, match="'v'"):
        optimizer(name).step(np.zeros(1, dtype=np.float32), np.array([1e30]), OptimizerState.initial())


@pytest.mark.parametrize("tau", [1e-200, 1e200])
def test_an_absurd_tau_ends_in_numbers_or_in_an_error_by_name(tau: float) -> None:
    adam = server_optimizer("adam", lr=1.0, momentum=0.9, beta1=0.9, beta2=0.99, tau=tau)
    try:
        x, _ = adam.step(np.zeros(1, dtype=np.float32), np.array([1e-3]), OptimizerState.initial())
        assert np.isfinite(x).all()
    except AggregateNotFinite:
        assert tau > 1


@pytest.mark.parametrize(
    ("name", "vectors"),
    [
        ("sgd", {"m": (3,)}),
        ("momentum", {"v": (3,)}),
        ("momentum", {"m": (4,)}),
        ("adam", {"m": (3,)}),
        ("adam", {"m": (3,), "v": (1,)}),
        ("yogi", {"m": (3,), "v": (3,), "w": (3,)}),
    ],
)
def test_a_state_of_another_optimiser_or_model_is_refused(
    name: ServerOptimizerName, vectors: dict[str, tuple[int, ...]]
) -> None:
    state = OptimizerState({key: np.zeros(shape, dtype=np.float32) for key, shape in vectors.items()})
    with pytest.raises(OptimizerStateMismatch, match="wanted"):
        optimizer(name).step(np.zeros(3, dtype=np.float32), np.zeros(3), state)


def test_a_mean_of_another_shape_is_refused() -> None:
    with pytest.raises(UpdateShapeMismatch):
        ServerSGD().step(np.zeros(3, dtype=np.float32), np.zeros(4), OptimizerState.initial())
