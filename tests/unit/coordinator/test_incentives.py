"""Pay for counted updates: each reason once, from the journal, in books that balance."""

from collections import Counter

import pytest

from fed_compute.coordinator.incentives import IncentiveManager
from fed_compute.errors import ClientNotFound, RoundOver, UpdateRefused
from fed_compute.rounds.rewards import MICRO, RewardRules
from fed_compute.storage.sql.ledger import MINT
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job


def take_part(stand: Stand, name: str, *, seconds: float = 40.0) -> None:
    """Let one client do one whole round, this long after its lease."""
    assignment = stand.lease(name, heartbeats=False)
    stand.clock.advance(seconds)
    stand.send(name, assignment, body_for(assignment))
    stand.clock.advance(46)  # nobody else counts as present, so the round closes with one update
    stand.work()


def tokens(stand: Stand, name: str) -> float:
    """Return what a client has."""
    return stand.core.incentives.of(name).micro_tokens / MICRO


def reasons(stand: Stand, name: str) -> Counter[str]:
    """Return how often a client was paid for what."""
    return Counter(line.reason for line in stand.core.incentives.of(name).lines)


def test_an_update_is_paid_when_it_is_counted_and_not_before(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.clock.advance(1)
    assignment = stand.lease("anna", heartbeats=False)
    stand.clock.advance(40)
    stand.send("anna", assignment, body_for(assignment))
    assert tokens(stand, "anna") == 0
    stand.clock.advance(60)
    stand.work()
    assert tokens(stand, "anna") == 10
    (line,) = stand.core.incentives.of("anna").lines
    assert (line.reason, line.round_id, line.at) == ("base", 1, stand.clock.now())


@pytest.mark.parametrize(("seconds", "earned"), [(0, 12.5), (30, 12.5), (31, 10)])
def test_a_fast_update_earns_more(stand: Stand, seconds: float, earned: float) -> None:
    stand.join("anna")
    take_part(stand, "anna", seconds=seconds)
    assert tokens(stand, "anna") == earned


def test_coming_again_and_again_earns_more_from_the_fifth_time_on(stand: Stand) -> None:
    stand.join("anna")
    earned = []
    for _ in range(6):
        before = tokens(stand, "anna")
        take_part(stand, "anna")
        earned.append(tokens(stand, "anna") - before)
    assert earned == [10, 10, 10, 10, 15, 15]


def test_a_dropout_costs_half_of_the_next_update_and_the_streak(stand: Stand) -> None:
    stand.join("anna")
    for _ in range(4):
        take_part(stand, "anna")
    stand.lease("anna")
    stand.clock.advance(31)
    stand.work()
    take_part(stand, "anna")
    take_part(stand, "anna")
    assert reasons(stand, "anna") == {"base": 6, "dropout_penalty": 1}
    assert tokens(stand, "anna") == 55


def test_two_dropouts_before_an_update_cost_once(stand: Stand) -> None:
    stand.join("anna")
    for _ in range(2):
        stand.lease("anna")
        stand.clock.advance(31)
        stand.work()
    take_part(stand, "anna", seconds=10)
    assert reasons(stand, "anna") == {"base": 1, "speed_bonus": 1, "dropout_penalty": 1}
    assert tokens(stand, "anna") == 7.5


def test_a_lease_given_back_in_time_costs_nothing(stand: Stand) -> None:
    stand.join("anna")
    task = stand.lease("anna").task
    stand.core.tasks.release(task.client_id, task.task_id)
    take_part(stand, "anna")
    assert tokens(stand, "anna") == 10


def test_an_evaluation_that_runs_out_costs_nothing(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1}}))
    stand.join("anna")
    stand.report("anna")
    stand.work()
    assert stand.lease("anna").task.kind == "evaluate"
    stand.clock.advance(61)
    stand.work()
    stand.report("anna")
    stand.work()
    assert reasons(stand, "anna") == {"base": 2, "speed_bonus": 2}


def test_a_balance_is_that_of_this_moment(stand: Stand) -> None:
    stand.join("anna")
    stand.report("anna")
    (publish,) = [duty for duty in stand.core.worker._duties if duty.name == "versions"]
    publish.run()
    assert stand.core.incentives.balances() == {"anna": 12_500_000}


def test_a_refusal_breaks_the_streak_but_costs_nothing_else(open_stand: OpenStand) -> None:
    stand = open_stand(incentive_consistency_threshold=2)
    stand.create()
    stand.join("anna")
    take_part(stand, "anna")
    assignment = stand.lease("anna")
    with pytest.raises(UpdateRefused):
        stand.send("anna", assignment, b"rubbish")
    stand.core.tasks.release(assignment.task.client_id, assignment.task.task_id)
    take_part(stand, "anna")
    assert reasons(stand, "anna") == {"base": 2}
    take_part(stand, "anna")
    assert reasons(stand, "anna") == {"base": 3, "consistency_bonus": 1}


def test_what_is_not_counted_is_not_paid(open_stand: OpenStand) -> None:
    """Refused, late, and accepted in a round that was given up: none of them is in a model."""
    stand = open_stand()
    stand.create(tiny_job(min_updates=2))
    stand.join("anna", "bob")
    refused, late = stand.lease("anna"), stand.lease("bob")
    with pytest.raises(UpdateRefused):
        stand.send("anna", refused, b"rubbish")
    stand.send("anna", refused, body_for(refused))
    stand.clock.advance(101)
    stand.work()
    with pytest.raises(RoundOver):
        stand.send("bob", late, body_for(late))
    stand.work()
    assert stand.core.incentives.balances() == {"anna": 0, "bob": 0}
    assert stand.breaches() == ()


def test_the_operators_settings_change_what_is_paid(open_stand: OpenStand) -> None:
    stand = open_stand(incentive_base_reward=2.0, incentive_speed_threshold=5.0, incentive_consistency_threshold=2)
    stand.create()
    stand.join("anna")
    for seconds in (5, 6):
        take_part(stand, "anna", seconds=seconds)
    assert reasons(stand, "anna") == {"base": 2, "speed_bonus": 1, "consistency_bonus": 1}
    assert tokens(stand, "anna") == 2 + 0.5 + 2 + 1


def test_new_rules_change_nothing_that_was_paid(stand: Stand) -> None:
    stand.join("anna")
    take_part(stand, "anna")
    generous = IncentiveManager(stand.core.store, RewardRules(base_tokens=1000.0))
    assert generous.of("anna").micro_tokens == 10 * MICRO


def test_a_reader_that_begins_anew_pays_nobody_twice(stand: Stand) -> None:
    stand.join("anna")
    take_part(stand, "anna")
    take_part(stand, "anna")
    before = stand.core.incentives.of("anna")
    with stand.core.store.transaction() as records:
        records.journal.move_cursor("incentives", 0, {})
        records.earnings.clear()
    assert stand.core.incentives.of("anna") == before


def test_the_books_balance(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    for name in ("anna", "bob"):
        stand.report(name)
    stand.work()
    balances = stand.core.incentives.balances()
    assert balances == {"anna": 12_500_000, "bob": 12_500_000, "carl": 0}
    with stand.core.store.snapshot() as records:
        assert records.ledger.balances()[MINT] == -25_000_000
        assert records.ledger.unbalanced_groups() == []


def test_an_operator_who_pays_nothing_keeps_no_books(open_stand: OpenStand) -> None:
    stand = open_stand(incentive_base_reward=0.0)
    stand.create()
    stand.join("anna")
    take_part(stand, "anna")
    assert stand.core.incentives.of("anna").lines == []


def test_only_registered_clients_have_a_balance(stand: Stand) -> None:
    with pytest.raises(ClientNotFound):
        stand.core.incentives.of("nobody")


def test_balances_survive_a_restart(durable: Stand) -> None:
    durable.join("anna")
    take_part(durable, "anna")
    before = durable.core.incentives.of("anna")
    durable.restart()
    durable.work()
    assert durable.core.incentives.of("anna") == before
