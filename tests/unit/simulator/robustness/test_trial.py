"""Small experiments: a plain mean breaks, a robust rule does not, and the same seed gives the same figures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fed_compute.client.trainer import set_threads
from fed_compute.coordinator.folding import rule_of
from fed_compute.errors import AttackInvalid
from fed_compute.learning.aggregation import (
    Aggregator,
    OptimizerState,
    RobustFold,
    RoundContext,
    ServerSGD,
    WeightedMean,
)
from fed_compute.protocol.aggregation_section import AggregationSection
from fed_compute.protocol.schema import draw_initial
from fed_compute.simulator.attacks import attack_named
from fed_compute.simulator.robustness import DEFENCES, Defence, Setting, run_trial
from fed_compute.simulator.robustness.crowd import Crowd, Samples, mlp
from fed_compute.simulator.robustness.table import PAPER_ATTACKS

SMALL = Setting(num_clients=10, num_attackers=2, rounds=80, lr=1.0)
SHORT = Setting(rounds=100, lr=1.0)
"""The crowd of the published tables, in ten times larger steps and a sixth of the rounds."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


@pytest.mark.parametrize("attack", PAPER_ATTACKS)
def test_the_robust_rule_learns_under_each_published_attack_when_data_are_alike(attack: str) -> None:
    """What `make bench-robust` measures at length."""
    assert run_trial(SHORT, "iid", attack, ["robust"], seed=0)["robust"].accuracy > 90


@pytest.mark.parametrize("attack", ["scaling", "gaussian"])
def test_loud_attacks_break_a_plain_mean(attack: str) -> None:
    """The reason why a job with strangers should not average plainly."""
    assert run_trial(SHORT, "iid", attack, ["fedavg"], seed=0)["fedavg"].accuracy < 20


def test_data_sorted_by_label_break_the_median_without_any_attack() -> None:
    """The documentation says so, and that no rule is best everywhere: this keeps it honest."""
    found = run_trial(SHORT, "sorted", "none", ["fedavg", "median"], seed=0)
    assert found["fedavg"].accuracy > 85
    assert found["median"].accuracy < 70


def test_a_lie_about_sample_counts_breaks_only_the_rule_that_believes_it() -> None:
    found = run_trial(SMALL, "iid", "sample_count_lie", ["fedavg", "robust"], seed=0)
    assert found["fedavg"].accuracy < 20
    assert found["robust"].accuracy > 80


def test_the_same_seed_gives_the_same_figures_and_another_seed_others() -> None:
    small = replace(SMALL, rounds=12)
    first, second, other = (run_trial(small, "dirichlet", "gaussian", list(DEFENCES), seed=seed) for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_progress_is_told_after_each_round() -> None:
    told: list[int] = []
    run_trial(replace(SMALL, rounds=3), "iid", "none", ["fedavg"], seed=0, progress=told.append)
    assert told == [1, 2, 3]


def test_an_unknown_attack_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(AttackInvalid):
        run_trial(SMALL, "iid", "flip", ["fedavg"], seed=0)


def test_a_model_that_an_attack_has_blown_up_stands_still() -> None:
    """A coordinator takes no update that is not finite, and publishes no such version."""
    wild = replace(SMALL, rounds=25, lr=1e30)
    found = run_trial(wild, "iid", "scaling", ["fedavg"], seed=0)["fedavg"]
    assert found.failed_rounds > 0
    assert 0 <= found.accuracy <= 100


@pytest.mark.parametrize("num_attackers", [0, 1, 5, 12])
def test_attackers_are_that_many_different_clients(num_attackers: int) -> None:
    setting = Setting(num_attackers=num_attackers)
    assert len(set(setting.attackers)) == num_attackers
    assert set(setting.attackers) <= set(range(25))


def test_the_operators_own_samples_are_of_every_digit_and_no_attack_relabels_them() -> None:
    """A trusted client with skewed or flipped labels would say nothing about the rule that trusts it."""
    setting, (model, _) = Setting(num_attackers=12), mlp(Setting())
    samples = Samples.digits(setting, "sorted", seed=0)
    assert len(set(samples.root.tolist())) == 100
    assert set(samples.training.y[samples.root].tolist()) == set(range(10))
    start = draw_initial(mlp(setting)[1], seed=0)[None]
    honest, flipped = (
        Crowd(setting, samples, attack_named(name), model=model, seed=0).train(start)[0]
        for name in ("none", "label_flip")
    )
    changed = np.flatnonzero((honest != flipped).any(axis=1))
    assert changed.tolist() == list(setting.attackers)


@pytest.mark.parametrize("split", ["iid", "dirichlet", "sorted"])
def test_every_digit_is_left_with_an_honest_client(split: str) -> None:
    """Otherwise a low figure would tell of missing data and not of the rule."""
    setting = Setting()
    for seed in range(5):
        samples = Samples.digits(setting, split, seed=seed)  # type: ignore[arg-type]
        honest = [part for place, part in enumerate(samples.parts) if place not in setting.attackers]
        assert sorted(set(samples.training.y[np.concatenate(honest)].tolist())) == list(range(10))


def test_clients_send_minus_the_rate_times_the_average_gradient_that_they_keep() -> None:
    """With momentum 0.9 the first update is a tenth of a step; without it a whole one, and nothing is kept."""
    setting, (model, schema) = replace(SMALL, lr=0.5), mlp(SMALL)
    samples = Samples.digits(setting, "iid", seed=0)
    vectors = np.zeros((1, schema.num_parameters), dtype=np.float32)

    def updates(momentum: float) -> list[np.ndarray]:
        crowd = Crowd(replace(setting, momentum=momentum), samples, attack_named("none"), model=model, seed=0)
        return [crowd.train(vectors)[0] for _ in range(2)]

    (first, second), (kept_first, kept_second) = updates(0.0), updates(0.9)
    np.testing.assert_allclose(kept_first, 0.1 * first, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(kept_second, 0.1 * second + 0.09 * first, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", DEFENCES)
def test_a_defence_of_the_table_is_what_the_products_aggregator_does(name: str, tmp_path: Path) -> None:
    """The table would say nothing about the product otherwise."""
    stream = np.random.default_rng(0)
    updates = stream.standard_normal((9, 50)).astype(np.float32)
    claims, start = stream.integers(1, 100, 9).astype(np.float64), np.zeros(50, dtype=np.float32)
    section = AggregationSection(**DEFENCES[name])
    section = AggregationSection(**DEFENCES[name], f=2) if section.uses_f else section
    fold = WeightedMean(50) if section.is_plain_average else RobustFold(rule_of(section), 50, folder=tmp_path)
    aggregator = Aggregator(fold, ServerSGD(), keeps_center=section.rule == "centered_clipping")
    trusted = stream.standard_normal(50).astype(np.float32)
    if section.rule == "fltrust":
        aggregator.add_all([trusted], weights=[1.0])
    weights = list(claims) if section.weights_by == "samples" else [1.0] * len(claims)
    aggregator.add_all(list(updates), weights=weights)
    after = aggregator.finish(start, OptimizerState.initial(), RoundContext(root=0, seed=7))
    found = Defence(name, num_attackers=2).combine(updates, claims, center=start, trusted=trusted, seed=7)
    np.testing.assert_allclose(found.mean, after.outcome.mean, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", [name for name in DEFENCES if name != "fedavg"])
def test_no_other_defence_believes_claims(name: str) -> None:
    stream = np.random.default_rng(0)
    updates, center = stream.standard_normal((9, 50)).astype(np.float32), np.zeros(50, dtype=np.float32)
    trusted = updates[3] + updates[5]
    honest, lie = np.full(9, 10.0), np.where(np.arange(9) == 4, 1e7, 10.0)
    first, second = (
        Defence(name, num_attackers=2).combine(updates, claims, center=center, trusted=trusted, seed=1).mean
        for claims in (honest, lie)
    )
    assert first.tobytes() == second.tobytes()
