"""Clients drawn from the seed: as many of each kind as the fleet says, on when they should be, the same again."""

import numpy as np
import pytest

from fed_compute.errors import SimulationImpossible
from fed_compute.simulator.population import FleetSpec, Population, load_fleet
from fed_compute.simulator.population.description import parse_fleet_text

MIDNIGHT = 1_767_225_600.0
HOUR = 3600.0


def population(fleet: FleetSpec, count: int, *, seed: int = 0, model_bytes: int = 0) -> Population:
    return Population(fleet, count, seed=seed, began_at=MIDNIGHT, model_bytes=model_bytes)


def of(text: str) -> FleetSpec:
    return parse_fleet_text('[[device]]\nname = "pc"\n' + text)


def test_shares_are_met_exactly_whatever_the_count() -> None:
    for count in (1, 7, 100, 1003):
        drawn = population(load_fleet("hostile"), count)
        assert sum(drawn.counts().values()) == count == len(set(drawn.names))
        assert abs(drawn.num_attackers - 0.2 * count) <= 0.5
    assert population(load_fleet("volunteer"), 1000).counts() == {"desktop": 400, "laptop": 500, "single-board": 100}


def test_the_same_seed_draws_the_same_clients_and_another_seed_others() -> None:
    fleet, everybody = load_fleet("mobile"), np.arange(300)
    first, again, other = (population(fleet, 300, seed=seed) for seed in (4, 4, 5))
    assert first.names == again.names != other.names
    assert [first.behavior(one) for one in everybody] == [again.behavior(one) for one in everybody]
    there = [one.are_there(everybody, MIDNIGHT + 2 * HOUR) for one in (first, again, other)]
    assert np.array_equal(there[0], there[1])
    assert not np.array_equal(there[0], there[2])


def test_machines_are_on_around_their_peak_for_their_share_of_the_day() -> None:
    fleet, everybody = of("availability = { fraction = 0.25, peak_hour = 2.0, spread_hours = 0.5 }"), np.arange(400)
    drawn = population(fleet, 400)
    shares = [drawn.are_there(everybody, MIDNIGHT + hour * HOUR).mean() for hour in np.arange(0, 24, 0.25)]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.01)
    assert drawn.are_there(everybody, MIDNIGHT + 2 * HOUR).all()
    assert not drawn.are_there(everybody, MIDNIGHT + 14 * HOUR).any()
    wait = drawn.seconds_until_anyone(everybody, MIDNIGHT + 14 * HOUR)
    assert wait is not None
    assert 6 * HOUR < wait < 10 * HOUR
    assert drawn.are_there(everybody, MIDNIGHT + 14 * HOUR + wait + 1.0).any()


def test_as_many_leave_for_good_as_the_churn_says() -> None:
    """2000 machines, a tenth a day: after a day 1800 are left, give or take 4 standard deviations of 13."""
    drawn, everybody = population(of("churn_per_day = 0.1"), 2000), np.arange(2000)
    assert drawn.are_there(everybody, MIDNIGHT).all()
    assert 1746 < drawn.are_there(everybody, MIDNIGHT + 24 * HOUR).sum() < 1854


def test_speeds_spread_as_far_as_the_class_says_and_no_farther() -> None:
    drawn = population(of("speed_spread = 8.0"), 500)
    factors = [drawn.behavior(client).speed_factor for client in range(500)]
    assert 1.0 <= min(factors) < 1.1
    assert 7.0 < max(factors) <= 8.0


def test_a_model_too_large_for_a_class_keeps_it_out_and_one_too_large_for_all_is_refused() -> None:
    fleet, everybody = load_fleet("mobile"), np.arange(100)
    drawn = population(fleet, 100, model_bytes=200 << 20)  # 800 MiB in all: too much for the old phones
    there = drawn.are_there(everybody, MIDNIGHT + 2 * HOUR)
    assert there.any()
    assert all(drawn.device(int(client)).name == "phone-new" for client in np.flatnonzero(there))
    with pytest.raises(SimulationImpossible, match="no device of fleet 'mobile' has the memory"):
        population(fleet, 100, model_bytes=1 << 30)
