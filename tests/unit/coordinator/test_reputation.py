"""What a client's past says, drawn from the journal."""

import pytest

from fed_compute.errors import ClientNotFound, LeaseExpired, RoundOver, UpdateRefused
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job


def drop_out(stand: Stand, name: str) -> None:
    """Take a lease and let it run out."""
    stand.lease(name)
    stand.clock.advance(31)
    stand.work()


def test_a_newcomer_is_neither_good_nor_bad(stand: Stand) -> None:
    stand.join("anna")
    reputation = stand.core.reputation.of("anna")
    assert (reputation.client_id, reputation.measures.reputation_score) == ("anna", 0.5)
    assert reputation.measures.update_submission_rate is None


def test_the_measures_are_those_of_the_journal(stand: Stand) -> None:
    stand.join("anna", "bob")
    drop_out(stand, "anna")
    assignment = stand.lease("anna")
    with pytest.raises(UpdateRefused):
        stand.send("anna", assignment, b"rubbish")
    stand.clock.advance(4)
    stand.send("anna", assignment, body_for(assignment))
    reputation = stand.core.reputation.of("anna")
    standing, measures = reputation.standing, reputation.measures
    assert (standing.tasks_assigned, standing.updates_accepted, standing.updates_refused) == (2, 1, 1)
    assert (standing.dropouts, standing.streak) == (1, 1)
    assert (measures.round_dropout_rate, measures.update_acceptance_rate) == (0.5, 0.5)
    assert (measures.update_submission_rate, measures.mean_latency_seconds) == (1.0, 4.0)


def test_reporting_and_dropping_out_move_the_score_apart(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    drop_out(stand, "bob")
    stand.report("anna")
    scores = {r.client_id: r.measures.reputation_score for r in stand.core.reputation.all()}
    assert scores["anna"] > scores["carl"] == 0.5 > scores["bob"]


def test_a_lease_cancelled_because_the_round_was_full_is_nobodys_failure(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    idle = stand.lease("carl")
    for name in ("anna", "bob"):
        stand.report(name)
    with pytest.raises(RoundOver):
        stand.send("carl", idle, body_for(idle))
    reputation = stand.core.reputation.of("carl")
    assert (reputation.measures.reputation_score, reputation.standing.updates_late) == (0.5, 1)
    assert reputation.measures.round_dropout_rate == 0.0


def test_a_lease_given_back_in_time_is_no_dropout(stand: Stand) -> None:
    stand.join("anna")
    task = stand.lease("anna").task
    stand.core.tasks.release(task.client_id, task.task_id)
    reputation = stand.core.reputation.of("anna")
    assert (reputation.standing.dropouts, reputation.measures.reputation_score) == (0, 0.5)


def test_whoever_comes_late_after_a_dropout_keeps_the_dropout(stand: Stand) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    stand.clock.advance(31)
    stand.work()
    with pytest.raises(LeaseExpired):
        stand.send("anna", assignment, body_for(assignment))
    standing = stand.core.reputation.of("anna").standing
    assert (standing.dropouts, standing.updates_late) == (1, 1)


def test_evaluations_do_not_touch_reputation(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1}}))
    stand.join("anna")
    stand.report("anna")
    stand.work()
    before = stand.core.reputation.of("anna").standing
    assert stand.lease("anna").task.kind == "evaluate"
    stand.clock.advance(61)
    stand.work()
    assert len(stand.journal("task_expired")) == 1
    assert stand.core.reputation.of("anna").standing == before


def test_consistency_is_counted_from_a_clients_first_round(stand: Stand) -> None:
    stand.join("bob")
    for _ in range(2):
        stand.report("bob")
        stand.work()
    stand.join("anna")
    for name in ("anna", "bob"):
        stand.report(name)
    stand.work()
    measures = {r.client_id: r.measures.consistency_score for r in stand.core.reputation.all()}
    assert measures == {"anna": 1.0, "bob": 1.0}
    stand.clock.advance(46)  # anna is gone
    stand.report("bob")
    stand.work()
    assert stand.core.reputation.of("anna").measures.consistency_score == 0.5


def test_only_registered_clients_have_a_reputation(stand: Stand) -> None:
    stand.join("anna")
    assert [r.client_id for r in stand.core.reputation.all()] == ["anna"]
    with pytest.raises(ClientNotFound):
        stand.core.reputation.of("nobody")


def test_reputation_goes_on_where_it_was_after_a_restart(durable: Stand) -> None:
    durable.join("anna", "bob")
    durable.report("anna")
    before = durable.core.reputation.of("anna")
    durable.restart()
    assert durable.core.reputation.of("anna") == before
