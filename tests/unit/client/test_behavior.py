"""Simulated misbehaviour: decided by numbers, repeatable from one seed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.behavior import Behavior


def stream(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_the_default_does_nothing_and_draws_no_chance() -> None:
    """Switching the simulation off must not change anything else that is random."""
    calm, rng = Behavior(), stream(1)
    before = rng.bit_generator.state
    assert calm.decide_startup(rng) == 0.0
    assert calm.decide_dropout(rng) is None
    assert calm.decide_call(rng) == 0.0
    assert calm.decide_stretch(3.0) == 0.0
    assert rng.bit_generator.state == before


@given(seed=st.integers(0, 2**32), delay=st.floats(0.001, 1e4))
def test_delays_stay_in_their_range(seed: int, delay: float) -> None:
    slow, rng = Behavior(startup_delay=delay, coordinator_delay=delay), stream(seed)
    assert 0.5 * delay <= slow.decide_startup(rng) <= 1.5 * delay
    assert slow.decide_call(rng) >= 0.0


def test_a_client_drops_as_many_tasks_as_it_should() -> None:
    """2000 draws at 0.2: outside 340 to 460 the probability is wrong (3.3 standard deviations)."""
    shaky, rng = Behavior(dropout_probability=0.2), stream(5)
    drops = [shaky.decide_dropout(rng) for _ in range(2000)]
    places = [place for place in drops if place is not None]
    assert 340 < len(places) < 460
    assert all(0 <= place < 1 for place in places)
    assert 0.4 < float(np.mean(places)) < 0.6


def test_certain_dropout_always_drops() -> None:
    rng = stream(0)
    assert all(Behavior(dropout_probability=1.0).decide_dropout(rng) is not None for _ in range(100))


def test_the_mean_of_network_delays_is_the_setting() -> None:
    slow, rng = Behavior(coordinator_delay=0.3), stream(2)
    assert abs(np.mean([slow.decide_call(rng) for _ in range(5000)]) - 0.3) < 0.02


def test_a_speed_factor_of_four_makes_ten_seconds_last_forty() -> None:
    assert 10.0 + Behavior(speed_factor=4.0).decide_stretch(10.0) == 40.0


def test_the_same_seed_decides_the_same() -> None:
    wild = Behavior(startup_delay=1, dropout_probability=0.5, coordinator_delay=1)

    def story(seed: int) -> list[float | None]:
        rng = stream(seed)
        return [wild.decide_startup(rng), *(wild.decide_dropout(rng) for _ in range(20)), wild.decide_call(rng)]

    assert story(3) == story(3)
    assert story(3) != story(4)
