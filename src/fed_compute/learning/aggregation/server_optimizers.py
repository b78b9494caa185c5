"""The server's step along the mean update: plain, with momentum, or adaptive.

Sources: FedAvgM, Hsu et al. 2019 (arXiv:1909.06335); FedAdam, FedYogi and FedAdagrad, Reddi et al.
2021, Algorithm 2 (arXiv:2003.00295): no bias correction, and v starts at tau².
The mean update is used as it is (parameters move towards it), so `lr = 1` with `ServerSGD` is FedAvg.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self, assert_never

import numpy as np
import numpy.typing as npt

from fed_compute.errors import AggregateNotFinite, OptimizerStateMismatch
from fed_compute.learning.vectors import Vector, Vector64, blocks, non_finite, require_shape

STEP_BLOCK = 8_192
"""Parameters worked on at once: 64 KiB in float64, so that what a formula needs in between stays in the cache."""

ServerOptimizerName = Literal["sgd", "momentum", "adam", "yogi", "adagrad"]
_Stored = npt.NDArray[np.float32] | npt.NDArray[np.float64]
_Memory = Mapping[str, Vector64]
_Formula = Callable[[Vector64, Vector64, _Memory], tuple[Vector64, _Memory]]


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """What an optimiser remembers from step to step: named float32 vectors, each (P,), possibly none."""

    vectors: Mapping[str, Vector] = field(default_factory=dict)

    @classmethod
    def initial(cls) -> Self:
        """Return the state before the first step: nothing, whatever the optimiser and the model."""
        return cls()


class ServerOptimizer(Protocol):
    """A rule for the next parameters. All arithmetic is in float64, results are stored in float32."""

    def step(self, parameters: Vector, mean_delta: Vector64, state: OptimizerState) -> tuple[Vector, OptimizerState]:
        """Return the next parameters, float32 (P,), and the next state; no argument is changed.

        Equal arguments give equal bits. Memory: the new vectors and a few blocks of scratch.

        Raises:
            UpdateShapeMismatch: if `mean_delta` is not shaped like `parameters`.
            OptimizerStateMismatch: if `state` is neither initial nor of this optimiser and model.
            AggregateNotFinite: if a value of the result would be NaN or infinite in float32.
        """
        ...


@dataclass(frozen=True, slots=True)
class ServerSGD:
    """x ← x + lr · Δ. Keeps no state."""

    lr: float = 1.0

    def step(self, parameters: Vector, mean_delta: Vector64, state: OptimizerState) -> tuple[Vector, OptimizerState]:
        return _step(self._formula, {}, parameters, mean_delta, state)

    def _formula(self, x: Vector64, delta: Vector64, memory: _Memory) -> tuple[Vector64, _Memory]:
        return x + self.lr * delta, {}


@dataclass(frozen=True, slots=True)
class ServerMomentum:
    """m ← momentum · m + Δ; x ← x + lr · m. m starts at 0."""

    lr: float = 1.0
    momentum: float = 0.9

    def step(self, parameters: Vector, mean_delta: Vector64, state: OptimizerState) -> tuple[Vector, OptimizerState]:
        return _step(self._formula, {"m": 0.0}, parameters, mean_delta, state)

    def _formula(self, x: Vector64, delta: Vector64, memory: _Memory) -> tuple[Vector64, _Memory]:
        m = self.momentum * memory["m"] + delta
        return x + self.lr * m, {"m": m}


@dataclass(frozen=True, slots=True)
class ServerAdam:
    """m ← β₁m + (1-β₁)Δ; v ← β₂v + (1-β₂)Δ²; x ← x + lr · m / (√v + τ)."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def step(self, parameters: Vector, mean_delta: Vector64, state: OptimizerState) -> tuple[Vector, OptimizerState]:
        return _step(self._formula, {"m": 0.0, "v": self.tau * self.tau}, parameters, mean_delta, state)

    def _formula(self, x: Vector64, delta: Vector64, memory: _Memory) -> tuple[Vector64, _Memory]:
        m = self.beta1 * memory["m"] + (1 - self.beta1) * delta
        v = self.beta2 * memory["v"] + (1 - self.beta2) * (delta * delta)
        return x + self.lr * m / (np.sqrt(v) + self.tau), {"m": m, "v": v}


@dataclass(frozen=True, slots=True)
class ServerYogi:
    """m ← β₁m + (1-β₁)Δ; v ← v - (1-β₂)Δ² · sign(v - Δ²); x ← x + lr · m / (√v + τ)."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def step(self, parameters: Vector, mean_delta: Vector64, state: OptimizerState) -> tuple[Vector, OptimizerState]:
        return _step(self._formula, {"m": 0.0, "v": self.tau * self.tau}, parameters, mean_delta, state)

    def _formula(self, x: Vector64, delta: Vector64, memory: _Memory) -> tuple[Vector64, _Memory]:
        square = delta * delta
        m = self.beta1 * memory["m"] + (1 - self.beta1) * delta
        v = memory["v"] - (1 - self.beta2) * square * np.sign(memory["v"] - square)
        return x + self.lr * m / (np.sqrt(v) + self.tau), {"m": m, "v": v}


@dataclass(frozen=True, slots=True)
class ServerAdagrad:
    """m ← β₁m + (1-β₁)Δ; v ← v + Δ²; x ← x + lr · m / (√v + τ)."""

    lr: float
    beta1: float = 0.9
    tau: float = 1e-3

    def step(self, parameters: Vector, mean_delta: Vector64, state: OptimizerState) -> tuple[Vector, OptimizerState]:
        return _step(self._formula, {"m": 0.0, "v": self.tau * self.tau}, parameters, mean_delta, state)

    def _formula(self, x: Vector64, delta: Vector64, memory: _Memory) -> tuple[Vector64, _Memory]:
        m = self.beta1 * memory["m"] + (1 - self.beta1) * delta
        v = memory["v"] + delta * delta
        return x + self.lr * m / (np.sqrt(v) + self.tau), {"m": m, "v": v}


def server_optimizer(
    name: ServerOptimizerName, *, lr: float, momentum: float, beta1: float, beta2: float, tau: float
) -> ServerOptimizer:
    """Return the optimiser of this name; numbers that it has no use for are ignored."""
    match name:
        case "sgd":
            return ServerSGD(lr)
        case "momentum":
            return ServerMomentum(lr, momentum)
        case "adam":
            return ServerAdam(lr, beta1, beta2, tau)
        case "yogi":
            return ServerYogi(lr, beta1, beta2, tau)
        case "adagrad":
            return ServerAdagrad(lr, beta1, tau)
        case _:
            assert_never(name)


def _step(
    formula: _Formula,
    starts: Mapping[str, float],
    parameters: Vector,
    mean_delta: Vector64,
    state: OptimizerState,
) -> tuple[Vector, OptimizerState]:
    """Apply an element-wise formula block by block; `starts` names the state and the value it starts from."""
    require_shape(mean_delta, parameters.size, what="mean_delta")
    memory = _memory(state, starts, parameters.size)
    new_parameters = np.empty(parameters.size, dtype=np.float32)
    new_memory = {name: np.empty(parameters.size, dtype=np.float32) for name in starts}
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
        for part in blocks(parameters.size, length=STEP_BLOCK):
            x, kept = formula(
                parameters[part].astype(np.float64),
                mean_delta[part],
                {name: vector[part].astype(np.float64) for name, vector in memory.items()},
            )
            new_parameters[part] = x
            for name, values in kept.items():
                new_memory[name][part] = values
    require_finite_result("parameters", new_parameters)
    for name, vector in new_memory.items():
        require_finite_result(f"optimiser state {name!r}", vector)
    return new_parameters, OptimizerState(new_memory)


def _memory(state: OptimizerState, starts: Mapping[str, float], size: int) -> Mapping[str, _Stored]:
    """Return the stored vectors, or what they start from. A start costs no memory: it is one value, broadcast."""
    if not state.vectors:
        return {name: np.broadcast_to(np.float64(start), (size,)) for name, start in starts.items()}
    found = {name: vector.shape for name, vector in state.vectors.items()}
    wanted = {name: (size,) for name in starts}
    if found != wanted:
        raise OptimizerStateMismatch(f"the optimiser's state has vectors {found}, wanted {wanted}")
    return state.vectors


def require_finite_result(what: str, vector: Vector) -> None:
    """Refuse a result that could not be stored.

    Raises:
        AggregateNotFinite: if it holds NaN or an infinity.
    """
    count, first = non_finite(vector)
    if count:
        raise AggregateNotFinite(what, count=count, first=first)
