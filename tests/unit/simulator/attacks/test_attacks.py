"""Each attack against its formula, and all of them against what every attack promises."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import AttackInvalid
from fed_compute.simulator.attacks import ATTACKS, Sent, View, attack_named
from fed_compute.simulator.attacks.collusion import Mimic, z_max

NAMES = [
    "none", "label_flip", "sign_flip", "ipm", "fall_of_empires", "alie", "gaussian", "scaling", "mimic",
    "sample_count_lie", "free_rider", "disguised_free_rider",
]  # fmt: skip


def a_view(
    num_honest: int = 20, num_attackers: int = 5, num_parameters: int = 40, *, num_samples: int = 57, seed: int = 0
) -> View:
    """Return a view of honest updates that agree on 1 and differ by 0.1."""
    stream = np.random.default_rng(seed)
    honest = 1 + 0.1 * stream.standard_normal((num_honest, num_parameters))
    own, last_step = stream.standard_normal((2, num_parameters))
    return View(
        honest.astype(np.float32),
        own.astype(np.float32),
        last_step.astype(np.float32),
        num_samples=num_samples,
        num_clients=num_honest + num_attackers,
        num_attackers=num_attackers,
    )


def sent(name: str, view: View, **settings: float) -> Sent:
    """Return what an attack sends, with a fresh stream of chance."""
    return attack_named(name, **settings).send(view, np.random.default_rng(1))


def test_the_names_of_attacks_do_not_change() -> None:
    """Experiments and fleet descriptions that people keep refer to them."""
    assert list(ATTACKS) == NAMES


@pytest.mark.parametrize("name", ["none", "label_flip"])
def test_who_only_learns_wrong_things_sends_what_it_learned(name: str) -> None:
    view = a_view()
    assert np.array_equal(sent(name, view).delta, view.own)


@pytest.mark.parametrize("name", ["label_flip", "scaling", "sample_count_lie"])
def test_poisoned_labels_are_nine_minus_the_digit(name: str) -> None:
    labels = np.arange(10)
    assert attack_named(name).relabel(labels, num_classes=10).tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert labels.tolist() == list(range(10))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("label_flip", "scaling", "sample_count_lie")])
def test_the_other_attacks_leave_labels_alone(name: str) -> None:
    assert attack_named(name).relabel(np.arange(10), num_classes=10).tolist() == list(range(10))


@pytest.mark.parametrize("labels", [[-1, 3], [3, 10]])
def test_a_class_that_does_not_exist_is_not_flipped_into_another(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="wanted 0 to 9"):
        attack_named("label_flip").relabel(np.array(labels), num_classes=10)


def test_no_labels_flip_to_no_labels() -> None:
    assert len(attack_named("label_flip").relabel(np.array([], dtype=np.int64), num_classes=10)) == 0


def test_sign_flip_is_minus_the_own_update() -> None:
    view = a_view()
    assert np.array_equal(sent("sign_flip", view).delta, -view.own)


@pytest.mark.parametrize(("name", "epsilon"), [("ipm", 0.1), ("fall_of_empires", 2.0)])
def test_inner_product_manipulation_is_minus_epsilon_times_the_mean(name: str, epsilon: float) -> None:
    view = a_view()
    np.testing.assert_allclose(sent(name, view).delta, -epsilon * view.honest.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(sent(name, view, epsilon=0.5).delta, -0.5 * view.honest.mean(axis=0), rtol=1e-5)


def test_a_little_is_enough_is_a_quarter_of_a_deviation_below_the_mean_for_five_of_twenty_five() -> None:
    """Baruch et al. with n = 25 and f = 5: s = 8 supporters, z = Φ⁻¹(0.6) = 0.2533."""
    view = a_view()
    assert z_max(25, 5) == pytest.approx(0.25335, abs=1e-5)
    expected = view.honest.mean(axis=0) - 0.25335 * view.honest.std(axis=0)
    np.testing.assert_allclose(sent("alie", view).delta, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("num_clients", "num_attackers", "z"), [(50, 12, 0.3360), (10, 5, 0.8416), (10, 8, 0.0), (2, 1, 0.0)]
)
def test_z_follows_the_sizes_and_is_zero_where_the_formula_has_no_answer(
    num_clients: int, num_attackers: int, z: float
) -> None:
    assert z_max(num_clients, num_attackers) == pytest.approx(z, abs=1e-3)


def test_z_needs_an_honest_client() -> None:
    with pytest.raises(ValueError, match="at least one honest"):
        z_max(5, 5)


def test_gaussian_noise_has_the_asked_for_deviation_and_nothing_of_the_own_update() -> None:
    view = a_view(num_parameters=20_000)
    noise = sent("gaussian", view, sigma=3.0).delta
    assert noise.std() == pytest.approx(3.0, rel=0.03)
    assert abs(noise.mean()) < 0.1
    assert abs(np.corrcoef(noise, view.own)[0, 1]) < 0.05


def test_scaling_multiplies_by_the_number_of_clients() -> None:
    """In a mean over n clients one such update replaces the model."""
    view = a_view()
    np.testing.assert_allclose(sent("scaling", view).delta, 25 * view.own)
    np.testing.assert_allclose(sent("scaling", view, factor=3).delta, 3 * view.own)
    replaced = (view.honest[:24].sum(axis=0) * 0 + sent("scaling", view).delta) / 25
    np.testing.assert_allclose(replaced, view.own, rtol=1e-6)


def test_mimic_copies_one_honest_client_to_the_byte() -> None:
    view = a_view()
    assert sent("mimic", view).delta.tobytes() == view.honest[0].tobytes()
    assert sent("mimic", view, victim=3).delta.tobytes() == view.honest[3].tobytes()


def test_the_count_lie_looks_honest_but_for_the_count() -> None:
    view = a_view()
    lie = sent("sample_count_lie", view)
    assert lie.delta.tobytes() == view.own.tobytes()
    assert lie.num_samples == 10_000_000


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sample_count_lie"])
def test_the_other_attacks_claim_what_they_have(name: str) -> None:
    assert sent(name, a_view(num_samples=31)).num_samples == 31


def test_a_free_rider_sends_nothing() -> None:
    assert not sent("free_rider", a_view()).delta.any()


def test_a_disguised_free_rider_sends_the_last_step_with_a_tenth_of_noise() -> None:
    view = a_view(num_parameters=20_000)
    noise = sent("disguised_free_rider", view).delta - view.last_step
    size = math.sqrt(float((view.last_step.astype(np.float64) ** 2).mean()))
    assert noise.std() == pytest.approx(0.1 * size, rel=0.03)


def test_a_disguised_free_rider_has_nothing_to_send_in_the_first_round() -> None:
    view = a_view()
    first = View(view.honest, view.own, np.zeros_like(view.own), num_samples=1, num_clients=25, num_attackers=5)
    assert not sent("disguised_free_rider", first).delta.any()


@pytest.mark.parametrize("name", NAMES)
@given(
    num_honest=st.integers(1, 12),
    num_attackers=st.integers(1, 12),
    num_parameters=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_attack_is_a_value_of_its_arguments(
    name: str, num_honest: int, num_attackers: int, num_parameters: int, seed: int
) -> None:
    """A fleet with liars must replay from one seed, and an attack must not reach into honest clients' memory."""
    view = a_view(num_honest, num_attackers, num_parameters, seed=seed)
    before = [part.tobytes() for part in (view.honest, view.own, view.last_step)]
    first, second = (attack_named(name).send(view, np.random.default_rng(seed)) for _ in range(2))
    assert first.delta.dtype == np.float32
    assert first.delta.shape == view.own.shape
    assert np.isfinite(first.delta).all()
    assert first.num_samples >= 1
    assert first.delta.tobytes() == second.delta.tobytes()
    assert [part.tobytes() for part in (view.honest, view.own, view.last_step)] == before


def test_a_misspelt_attack_names_the_nearest_one() -> None:
    with pytest.raises(AttackInvalid, match="did you mean 'sign_flip'"):
        attack_named("sign_flp")


def test_a_setting_that_an_attack_does_not_have_is_refused() -> None:
    with pytest.raises(AttackInvalid, match=r"gaussian has no setting 'sigam', did you mean 'sigma'\? known: sigma"):
        attack_named("gaussian", sigam=1.0)
    with pytest.raises(AttackInvalid, match="alie has no setting 'epsilon'; it has none"):
        attack_named("alie", epsilon=1.0)
    with pytest.raises(AttackInvalid, match=r"setting victim of attack mimic is 1\.5, wanted a whole number"):
        attack_named("mimic", victim=1.5)
    assert attack_named("mimic", victim=2.0) == Mimic(victim=2)


@pytest.mark.parametrize(
    ("honest", "own", "says"),
    [((0, 3), 3, "at least one row"), ((3,), 3, "wanted \\(n, P\\)"), ((2, 3), 4, "own has shape \\(4,\\)")],
)
def test_a_view_that_does_not_fit_together_is_refused(honest: tuple[int, ...], own: int, says: str) -> None:
    zeros = np.zeros(own, dtype=np.float32)
    with pytest.raises(ValueError, match=says):
        View(np.zeros(honest, dtype=np.float32), zeros, zeros, num_samples=1, num_clients=5, num_attackers=1)
