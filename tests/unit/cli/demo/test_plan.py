"""What a demonstration is made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.cli.demo.plan import (
    LONGEST_AWAY_SECONDS,
    MOST_CLIENTS,
    SHORTEST_AWAY_SECONDS,
    DemoPlan,
    make_plan,
)
from fed_compute.client.datasets.spec import parse_spec
from fed_compute.errors import SettingInvalid
from fed_compute.protocol.job import parse_job_text

plans = st.builds(
    DemoPlan,
    clients=st.integers(1, MOST_CLIENTS),
    rounds=st.integers(1, 1000),
    seed=st.integers(0, 10**18 - 1),
    drop=st.floats(0, 1),
)


@given(plans)
def test_every_plan_is_a_job_and_a_part_of_the_data_for_each_client(plan: DemoPlan) -> None:
    job = parse_job_text(plan.job_text())
    assert (job.seed, job.rounds.total, job.evaluation.max_clients) == (plan.seed, plan.rounds, plan.clients)
    specs = [parse_spec(plan.data_of(name)) for name in plan.names]
    assert [spec.part for spec in specs] == [(number, plan.clients) for number in range(1, plan.clients + 1)]
    assert {(spec.split, spec.seed) for spec in specs} == {("dirichlet", plan.seed)}


@given(plans)
def test_a_round_never_waits_for_more_clients_than_there_are_nor_closes_with_half(plan: DemoPlan) -> None:
    """With fewer than half, one client's data alone could become the model."""
    rounds = parse_job_text(plan.job_text()).rounds
    assert plan.clients / 2 < rounds.target_updates <= plan.clients
    assert 1 <= rounds.min_updates <= rounds.target_updates


@given(plans)
def test_everybody_may_work_in_a_round(plan: DemoPlan) -> None:
    rounds = parse_job_text(plan.job_text()).rounds
    assert isinstance(rounds.over_selection, float)
    assert rounds.target_updates * rounds.over_selection >= plan.clients - 1e-6


@pytest.mark.parametrize("clients", [1, 2, 3, 5, 50])
def test_without_deaths_every_client_is_in_every_round(clients: int) -> None:
    """Otherwise the same seed would not give the same model."""
    rounds = parse_job_text(make_plan(clients=clients, rounds=3, seed=1, drop=0).job_text()).rounds
    assert (rounds.target_updates, rounds.min_updates, rounds.over_selection) == (clients, clients, 1.0)


@pytest.mark.parametrize(
    ("clients", "drop", "target"), [(5, 0.2, 4), (10, 0.7, 6), (10, 0.3, 7), (25, 0.44, 14), (5, 1.0, 3), (1, 1.0, 1)]
)
def test_with_deaths_a_round_waits_for_those_who_should_live(clients: int, drop: float, target: int) -> None:
    assert make_plan(clients=clients, rounds=3, seed=1, drop=drop).target_updates == target


@given(plans, st.integers(1, 10_000))
def test_deaths_repeat_with_the_seed_and_are_possible(plan: DemoPlan, round_id: int) -> None:
    deaths = plan.deaths_in(round_id)
    assert deaths == plan.deaths_in(round_id)
    assert len({death.client for death in deaths}) == len(deaths)
    assert {death.client for death in deaths} <= set(plan.names)
    for death in deaths:
        assert 0 <= death.fraction < 1
        assert SHORTEST_AWAY_SECONDS <= death.away_seconds <= LONGEST_AWAY_SECONDS


def test_as_many_die_as_was_asked_for() -> None:
    """300 · 10 draws at 0.2 are within 500 and 700 with all but one chance in a million."""
    plan = make_plan(clients=10, rounds=300, seed=4, drop=0.2)
    assert 500 < sum(len(plan.deaths_in(round_id)) for round_id in range(1, 301)) < 700
    assert make_plan(clients=10, rounds=1, seed=4, drop=0).deaths_in(1) == ()
    assert len(make_plan(clients=10, rounds=1, seed=4, drop=1).deaths_in(1)) == 10


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"clients": 0}, "--clients is 0, wanted a whole number from 1 to 50"),
        ({"clients": 51}, "--clients is 51"),
        ({"rounds": 0}, "--rounds is 0, wanted a whole number from 1 to 1000"),
        ({"seed": -1}, "--seed is -1"),
        ({"seed": 10**18}, "--seed is"),
        ({"drop": 1.5}, "--drop is 1.5, wanted a probability from 0 to 1"),
        ({"drop": -0.1}, "--drop is -0.1"),
        ({"drop": float("nan")}, "--drop is nan"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, float], said: str) -> None:
    given_numbers = {"clients": 5, "rounds": 20, "seed": 1, "drop": 0.0, **wrong}
    with pytest.raises(SettingInvalid) as refused:
        make_plan(**given_numbers)  # type: ignore[arg-type]
    assert said in refused.value.message
