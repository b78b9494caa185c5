"""One attack against several defences: the same clients, data, batches and chance for each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fed_compute.errors import AggregateNotFinite, NothingToAggregate, RootUpdateMissing, UpdateShapeMismatch
from fed_compute.learning.aggregation import OptimizerState, ServerSGD
from fed_compute.learning.vectors import Vector, Vector64
from fed_compute.protocol.schema import draw_initial
from fed_compute.simulator.attacks import Attack, View, attack_named
from fed_compute.simulator.robustness.crowd import Crowd, Samples, mlp
from fed_compute.simulator.robustness.defences import Defence
from fed_compute.simulator.robustness.setting import Setting, Split
from fed_compute.simulator.stacked import Stack

Progress = Callable[[int], None]
"""Called after each round with the number of rounds done."""

EVALUATIONS = 5
EVALUATE_EVERY = 10
"""The accuracy is the mean of the last evaluations: that of a single round hops about."""
GRADIENT_SIGMA = 10.0
"""Noise of the attack `gaussian` in the unit of gradients; an update is lr times one."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one defence came out: accuracy on held-out samples in percent, and how many rounds made no new version."""

    accuracy: float
    failed_rounds: int


def run_trial(
    setting: Setting,
    split: Split,
    attack_name: str,
    defences: Sequence[str],
    *,
    seed: int,
    progress: Progress | None = None,
) -> Mapping[str, Result]:
    """Train one model for each defence, all under the same attack, and return the result of each.

    `seed` decides the first parameters, the parts, the batches and the attackers' noise; equal arguments give equal
    results on one machine.

    Raises:
        AttackInvalid: if there is no such attack.
    """
    attack = _attack(attack_name, setting)
    samples = Samples.digits(setting, split, seed=seed)
    model, schema = mlp(setting)
    crowd = Crowd(setting, samples, attack, model=model, seed=seed)
    start, liars = draw_initial(schema, seed=seed), _Liars(setting, attack, samples.counts)
    runs = [_Run(Defence(name, num_attackers=setting.num_attackers), start) for name in defences]
    accuracies = []
    for number in range(1, setting.rounds + 1):
        with np.errstate(over="ignore", invalid="ignore"):  # a model that an attack has blown up; the gate sees to it
            honest = crowd.train(np.stack([run.vector for run in runs]))
            for run, updates in zip(runs, honest, strict=True):
                sent, claims = liars.act(updates[:-1], run.last_step, rng=np.random.default_rng([seed, 2, number]))
                run.advance(sent, claims, trusted=updates[-1], seed=number)
        left = setting.rounds - number
        if left % EVALUATE_EVERY == 0 and left < EVALUATIONS * EVALUATE_EVERY:
            accuracies.append(crowd.accuracies(np.stack([run.vector for run in runs])))
        if progress is not None:
            progress(number)
    means = np.mean(accuracies, axis=0)
    return {name: Result(float(mean), run.failed_rounds) for name, mean, run in zip(defences, means, runs, strict=True)}


def _attack(name: str, setting: Setting) -> Attack:
    if name == "gaussian":
        return attack_named(name, sigma=GRADIENT_SIGMA * setting.lr)
    return attack_named(name)


class _Liars:
    """Puts what the attackers send in the place of what they trained."""

    def __init__(self, setting: Setting, attack: Attack, counts: npt.NDArray[np.int64]) -> None:
        self._setting = setting
        self._attack = attack
        self._counts = counts
        self._honest = [i for i in range(setting.num_clients) if i not in setting.attackers]

    def act(self, updates: Stack, last_step: Vector, *, rng: np.random.Generator) -> tuple[Stack, Vector64]:
        """Return all updates as they are sent, shape (n, P), and the sample counts as they are claimed, (n,)."""
        sent, claims = updates.copy(), self._counts.astype(np.float64)
        honest = updates[self._honest]
        for place in self._setting.attackers:
            view = View(
                honest,
                updates[place],
                last_step,
                num_samples=int(self._counts[place]),
                num_clients=self._setting.num_clients,
                num_attackers=self._setting.num_attackers,
            )
            lie = self._attack.send(view, rng)
            sent[place], claims[place] = lie.delta, lie.num_samples
        return sent, claims


class _Run:
    """One model on its way through the rounds behind one defence."""

    def __init__(self, defence: Defence, start: Vector) -> None:
        self.vector = start
        self.last_step: Vector = np.zeros_like(start)
        self.failed_rounds = 0
        self._defence = defence
        self._center: Vector = np.zeros_like(start)

    def advance(self, updates: Stack, claims: Vector64, *, trusted: Vector, seed: int) -> None:
        """Make the next version. As in a coordinator, only finite updates count and a failed round changes nothing."""
        taken = np.isfinite(updates).all(axis=1)
        usable = trusted if np.isfinite(trusted).all() else None
        try:
            outcome = self._defence.combine(
                updates[taken], claims[taken], center=self._center, trusted=usable, seed=seed
            )
            after, _ = ServerSGD().step(self.vector, outcome.mean, OptimizerState.initial())
        except (UpdateShapeMismatch, NothingToAggregate, AggregateNotFinite, RootUpdateMissing):
            self.failed_rounds += 1
            return
        self.last_step, self.vector = after - self.vector, after
        self._center = outcome.mean.astype(np.float32)
