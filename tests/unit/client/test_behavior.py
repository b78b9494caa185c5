"""Simulated misbehaviour: decided by numbers, repeatable from one seed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.behavior import DAY_SECONDS, Behavior, Course, is_on, seconds_until_on


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


def test_a_course_adds_up_what_fetching_training_and_sending_take() -> None:
    """1 MB at 8 Mbit/s is a second, at 4 Mbit/s two; work at a third of the speed takes three times as long."""
    plain = Behavior(speed_factor=3.0, down_mbps=8.0, up_mbps=4.0)
    course = plain.decide_course(stream(1), work_seconds=10.0, down_bytes=10**6, up_bytes=10**6)
    assert course == Course(1.0 + 30.0 + 2.0)
    at_once = Behavior().decide_course(stream(1), work_seconds=0.0, down_bytes=10**9, up_bytes=10**9)
    assert at_once == Course(0.0)


@given(seed=st.integers(0, 2**32))
def test_a_course_that_is_lost_is_lost_on_the_way_and_variation_stays_in_its_range(seed: int) -> None:
    shaky = Behavior(dropout_probability=1.0, speed_variation=0.5)
    course = shaky.decide_course(stream(seed), work_seconds=10.0, down_bytes=0, up_bytes=0)
    assert 5.0 <= course.seconds <= 15.0
    assert course.lost_after is not None
    assert 0.0 <= course.lost_after < course.seconds


def test_updates_are_late_as_often_and_by_as_much_as_they_should() -> None:
    """2000 draws at 0.3 with a mean of 60 s: outside 520 to 680, or of 50 to 70 s, something is wrong."""
    slow, rng = Behavior(lateness_probability=0.3, lateness_seconds=60.0), stream(3)
    late = [seconds for seconds in (slow.decide_lateness(rng) for _ in range(2000)) if seconds]
    assert 520 < len(late) < 680
    assert 50 < float(np.mean(late)) < 70


@given(now=st.floats(0, 1e9), start=st.floats(-DAY_SECONDS, DAY_SECONDS), fraction=st.floats(0.01, 1.0))
def test_whoever_is_off_is_on_again_when_it_says(now: float, start: float, fraction: float) -> None:
    starts = np.array([start])
    wait = float(seconds_until_on(now, starts, fraction=fraction)[0])
    assert 0.0 <= wait <= DAY_SECONDS
    assert bool(is_on(now, starts, fraction=fraction)[0]) == (wait == 0.0)
    assert is_on(now + wait + 1.0, starts, fraction=max(fraction, 0.01))[0] or fraction * DAY_SECONDS < 2.0 or wait == 0
