"""Pay for counted updates: each reason once, from the journal, in books that balance."""

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from fed_compute.coordinator.incentives import IncentiveManager
from fed_compute.coordinator.leaderboard import team_total
from fed_compute.errors import ClientNotFound, GrantNotFound, RoundOver, UpdateRefused
from fed_compute.ids import ClientId
from fed_compute.rounds.bookkeeping import MINT
from fed_compute.rounds.rewards import MICRO, RewardRules
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job


def take_part(stand: Stand, name: str, *, seconds: float = 40.0) -> None:
    """Let one client do one whole round, this long after its lease."""
    assignment = stand.lease(name, heartbeats=False)
    stand.clock.advance(seconds)
    stand.send(name, assignment, body_for(assignment))
    stand.clock.advance(46)  # nobody else counts as present, so the round closes with one update
    stand.work()


def begin_anew(stand: Stand) -> None:
    """Let the reader forget all but what it has posted."""
    with stand.core.store.transaction() as records:
        records.journal.move_cursor("incentives", 0, {})
        records.earnings.clear()


def tokens(stand: Stand, name: str) -> float:
    """Return what a client has."""
    return stand.core.incentives.of(name).holding.micro_tokens / MICRO


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
    assert {name: held.micro_tokens for name, held in stand.core.incentives.holdings().items()} == {"anna": 12_500_000}


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


def test_work_in_a_round_that_was_given_up_earns_half_and_what_nobody_saw_earns_nothing(open_stand: OpenStand) -> None:
    """Anna's update was valid, her round had too few of them. Bob's came late, and he never did any work before."""
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
    assert {name: tokens(stand, name) for name in ("anna", "bob")} == {"anna": 5, "bob": 0}
    assert reasons(stand, "anna") == {"late": 1}
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
    generous = IncentiveManager(stand.core.store, stand.clock, RewardRules(1000.0, 1e9, 1))
    assert generous.of("anna").holding.micro_tokens == 10 * MICRO
    begin_anew(stand)
    assert generous.of("anna").holding.micro_tokens == 10 * MICRO


def test_a_reader_that_begins_anew_pays_nobody_twice(stand: Stand) -> None:
    stand.join("anna")
    take_part(stand, "anna")
    take_part(stand, "anna")
    before = stand.core.incentives.of("anna")
    begin_anew(stand)
    assert stand.core.incentives.of("anna") == before


def test_the_books_balance(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    for name in ("anna", "bob"):
        stand.report(name)
    stand.work()
    held = {name: holding.micro_tokens for name, holding in stand.core.incentives.holdings().items()}
    assert held == {"anna": 12_500_000, "bob": 12_500_000, "carl": 0}
    with stand.core.store.snapshot() as records:
        assert records.ledger.balances()[MINT] == -25_000_000


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


def held(stand: Stand, name: str) -> tuple[float, float]:
    """Return a client's own tokens, and those that are pending."""
    holding = stand.core.incentives.of(name).holding
    return holding.settled / MICRO, holding.pending / MICRO


@pytest.fixture
def long_stand(open_stand: OpenStand) -> Iterator[Stand]:
    """A coordinator whose job has many rounds. The invariants hold at the end."""
    stand = open_stand(incentive_consistency_threshold=1000)
    stand.create(tiny_job(total=100))
    yield stand
    assert stand.breaches() == ()


def test_a_newcomers_credit_is_pending_until_ten_results_in_a_row_were_valid(long_stand: Stand) -> None:
    long_stand.join("anna")
    seen = []
    for _ in range(12):
        take_part(long_stand, "anna")
        seen.append(held(long_stand, "anna"))
    assert seen[:9] == [(0, 10 * (number + 1)) for number in range(9)]
    assert seen[9:] == [(100, 0), (110, 0), (120, 0)]
    kinds = Counter(line.kind for line in long_stand.core.incentives.of("anna").lines)
    assert kinds == {"grant": 12, "release": 1}


def test_it_is_told_how_many_results_are_missing(long_stand: Stand) -> None:
    long_stand.join("anna")
    take_part(long_stand, "anna")
    assert long_stand.core.incentives.of("anna").results_to_release == 9


def refuse(stand: Stand, name: str) -> None:
    """Let a client send rubbish and give its task back."""
    assignment = stand.lease(name)
    with pytest.raises(UpdateRefused):
        stand.send(name, assignment, b"rubbish")
    stand.core.tasks.release(assignment.task.client_id, assignment.task.task_id)


def test_a_refused_result_begins_the_count_anew_and_takes_nothing_that_was_settled(long_stand: Stand) -> None:
    long_stand.join("anna")
    for _ in range(5):
        take_part(long_stand, "anna")
    refuse(long_stand, "anna")
    for _ in range(9):
        take_part(long_stand, "anna")
    assert held(long_stand, "anna") == (0, 140)
    take_part(long_stand, "anna")
    assert held(long_stand, "anna") == (150, 0)
    refuse(long_stand, "anna")
    take_part(long_stand, "anna")
    assert held(long_stand, "anna") == (150, 10)


def test_a_straggler_earns_half_but_never_more_often_than_it_was_in_time(long_stand: Stand) -> None:
    long_stand.join("anna", "bob")
    take_part(long_stand, "bob")
    for _ in range(2):
        late = long_stand.lease("bob")
        take_part_in_time(long_stand, "anna")
        with pytest.raises(RoundOver):
            long_stand.send("bob", late, body_for(late))
        long_stand.work()
    assert reasons(long_stand, "bob") == {"base": 1, "late": 1}
    assert tokens(long_stand, "bob") == 15


def take_part_in_time(stand: Stand, name: str) -> None:
    """Let one client do its part, and an operator close the round."""
    round_id = stand.report(name).round_id
    stand.core.rounds.request_close(round_id)
    stand.work()


def test_every_line_tells_its_task_and_the_numbers_of_its_time(open_stand: OpenStand) -> None:
    stand = open_stand(incentive_consistency_threshold=2, incentive_base_reward=4.0)
    stand.create()
    stand.join("anna")
    for seconds in (40, 7):
        take_part(stand, "anna", seconds=seconds)
    lines = stand.core.incentives.of("anna").lines
    told = [(line.reason, json.loads(line.terms)) for line in lines]
    assert told == [
        ("base", {"base_tokens": 4.0}),
        ("base", {"base_tokens": 4.0}),
        ("speed_bonus", {"latency_seconds": 7.0, "threshold_seconds": 30.0, "share": 0.25}),
        ("consistency_bonus", {"streak": 2, "threshold": 2, "share": 0.5}),
    ]
    assert [line.task_id for line in lines[1:]] == [stand.updates(2)[0].task_id] * 3


def test_reasons_come_page_by_page(long_stand: Stand) -> None:
    long_stand.join("anna")
    for _ in range(5):
        take_part(long_stand, "anna")
    everything = long_stand.core.incentives.of("anna").lines
    first = long_stand.core.incentives.of("anna", limit=2).lines
    rest = long_stand.core.incentives.of("anna", after=first[-1].group_id).lines
    assert [*first, *rest] == everything


@pytest.mark.parametrize("rounds", [3, 10], ids=["pending", "settled"])
def test_an_operator_takes_back_what_one_task_earned_and_nothing_else(long_stand: Stand, rounds: int) -> None:
    long_stand.join("anna")
    for _ in range(rounds):
        take_part(long_stand, "anna", seconds=10)
    task_id, before = long_stand.updates(1)[0].task_id, tokens(long_stand, "anna")
    reversal = long_stand.core.incentives.reverse(task_id, note="two accounts of one machine")
    assert (reversal.client_id, reversal.micro_tokens, reversal.is_repeated) == ("anna", 12_500_000, False)
    assert tokens(long_stand, "anna") == before - 12.5
    back = [line for line in long_stand.core.incentives.of("anna").lines if line.kind == "reversal"]
    grants = {line.group_id: line for line in long_stand.core.incentives.of("anna").lines if line.kind == "grant"}
    for line in back:
        assert line.refers_to is not None
        old = grants[line.refers_to]
        assert line.settled + line.pending == -(old.settled + old.pending)
        assert (line.task_id, json.loads(line.terms)["note"]) == (task_id, "two accounts of one machine")
    assert len(long_stand.journal("credit_reversed")) == 1


def test_taking_back_twice_is_taking_back_once(long_stand: Stand) -> None:
    long_stand.join("anna")
    take_part(long_stand, "anna")
    task_id = long_stand.updates(1)[0].task_id
    first, again = (long_stand.core.incentives.reverse(task_id, note="x") for _ in range(2))
    assert (first.is_repeated, again.is_repeated) == (False, True)
    assert tokens(long_stand, "anna") == 0
    assert len(long_stand.journal("credit_reversed")) == 1


def test_what_was_taken_back_is_not_paid_again_by_a_reader_that_begins_anew(long_stand: Stand) -> None:
    long_stand.join("anna")
    for _ in range(11):
        take_part(long_stand, "anna")
    long_stand.core.incentives.reverse(long_stand.updates(2)[0].task_id, note="x")
    before = long_stand.core.incentives.of("anna")
    begin_anew(long_stand)
    assert long_stand.core.incentives.of("anna") == before


def test_nothing_can_be_taken_back_where_nothing_was_paid(long_stand: Stand) -> None:
    long_stand.join("anna")
    task = long_stand.lease("anna").task
    for task_id in (task.task_id, "t_none"):
        with pytest.raises(GrantNotFound):
            long_stand.core.incentives.reverse(task_id, note="x")


def test_an_operator_may_pay_speed_by_the_share_of_the_deadline(open_stand: OpenStand) -> None:
    stand = open_stand(incentive_speed_curve=True)
    stand.create()
    stand.join("anna")
    take_part(stand, "anna", seconds=50)  # of 100
    assert tokens(stand, "anna") == pytest.approx(10 * (0.75 / 0.5) ** 0.5)


def test_the_recent_average_fades_and_the_balance_does_not(long_stand: Stand) -> None:
    long_stand.join("anna")
    take_part(long_stand, "anna")
    now = long_stand.core.incentives.of("anna").recent_average
    long_stand.clock.advance(7 * 86_400)
    later = long_stand.core.incentives.of("anna")
    assert (now, later.recent_average) == (10, pytest.approx(5))
    assert tokens(long_stand, "anna") == 10


def test_credit_counts_for_the_team_that_the_client_was_in_when_it_was_paid(long_stand: Stand) -> None:
    anna = ClientId("anna")
    long_stand.join("anna")
    take_part(long_stand, "anna")
    foxes, _ = long_stand.core.teams.found(anna, "foxes")
    take_part(long_stand, "anna")
    paid = long_stand.updates(2)[0].task_id
    long_stand.core.teams.leave(anna)
    take_part(long_stand, "anna")
    assert team_total(long_stand.core.store, foxes.team_id) == 10 * MICRO
    long_stand.core.incentives.reverse(paid, note="x")
    assert team_total(long_stand.core.store, foxes.team_id) == 0
