"""Audits: others look at an update, and what they found reaches reputation and credit."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from fed_compute.coordinator.audits import AUDIT_SECONDS, AuditPlanner
from fed_compute.coordinator.standings import standing_of
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.errors import LeaseExpired, RoundNotFound, TaskNotFound
from fed_compute.ids import ClientId, JobId
from fed_compute.rounds.audits import LOTTERY_DOUBLES_SECONDS, Verdict
from fed_compute.rounds.quota import DAY_SECONDS, QuotaRules
from fed_compute.rounds.records import Audit, TaskKind, TaskState
from fed_compute.rounds.rewards import Earner
from fed_compute.rounds.scoring import NEWCOMER_RESULTS, Moment, Standing
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

VETERANS = ("anna", "bob", "carl", "dora")
BETTER, SAME, WORSE = (2.0, 1.0), (1.0, 1.0), (1.0, 3.0)


def audited_job(auditors: int = 3, **rounds: Any) -> Any:
    """Return a job of many rounds of four updates, whose updates may be audited."""
    return tiny_job(
        sections={"audits": {"auditors": auditors}}, **{"total": 500, "target_updates": 4, "min_updates": 4, **rounds}
    )


def play_round(stand: Stand, *names: str) -> int:
    """Let each client answer one round; return its number."""
    leases = {name: stand.lease(name, evaluates=False) for name in names}
    for name in names:
        stand.send(name, leases[name], body_for(leases[name]))
    stand.work()
    return int(leases[names[0]].task.round_id)


def make_veterans(stand: Stand, *names: str) -> None:
    """Give clients the standing that ten valid results make."""
    standing = Standing.newcomer(QuotaRules())
    for _ in range(10):
        moment = Moment(stand.clock.now())
        standing = standing.accepted(moment, latency_seconds=1.0, rules=QuotaRules())
    with stand.core.store.transaction() as records:
        for name in names:
            records.standings.put(name, standing.to_json())
    for name in names:
        stand.core.presence.note(ClientId(name))


@pytest.fixture
def court(open_stand: OpenStand) -> Iterator[Stand]:
    """Four clients with a good name. Every round opens one audit; the invariants hold at the end."""
    stand = open_stand()
    stand.create(audited_job())
    stand.join(*VETERANS)
    make_veterans(stand, *VETERANS)
    yield stand
    assert stand.breaches() == ()


def close_all(stand: Stand) -> None:
    """Let the time of every open audit run out."""
    stand.clock.advance(AUDIT_SECONDS)
    stand.work()


def open_audits(stand: Stand) -> list[Audit]:
    """Return the audits that are open."""
    with stand.core.store.snapshot() as records:
        rounds = records.rounds.of_job(JobId(1))
        audits = [audit for round_ in rounds for audit in records.audits.of_round(round_.round_id)]
    return [audit for audit in audits if audit.closed_at is None]


def take(stand: Stand, name: str) -> Assignment | None:
    """Ask for an audit, as a client that can do one; None if there is none. Whatever else is offered is given back."""
    found = stand.ask(name, audits=True, evaluates=False)
    if isinstance(found, Assignment) and found.task.kind is TaskKind.AUDIT:
        return found
    if isinstance(found, Assignment):
        stand.core.tasks.release(found.task.client_id, found.task.task_id)
    return None


def answer(stand: Stand, name: str, losses: tuple[float, float | None]) -> None:
    """Take an audit and answer it with the losses of the base and of the base with the update."""
    assignment = take(stand, name)
    assert assignment is not None, f"{name} got no audit"
    task = assignment.task
    base, loss = losses
    stand.core.audits.record(task.client_id, task.task_id, num_samples=9, base_loss=base, loss=loss)


def judge(stand: Stand, losses: tuple[float, float | None]) -> Audit:
    """Let everybody but the audited client judge the open audit alike; return it, closed."""
    (audit,) = open_audits(stand)
    stand.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    for name in VETERANS:
        if name != audit.client_id:
            answer(stand, name, losses)
    stand.work()
    with stand.core.store.snapshot() as records:
        return records.audits.get(audit.audit_id)


def judge_again_and_again(stand: Stand, losses: tuple[float, float | None], times: int) -> list[Audit]:
    """Play rounds and judge the audit of each; whoever was doubted is audited again at once."""
    audits = []
    for _ in range(times):
        play_round(stand, *VETERANS)
        audits.append(judge(stand, losses))
    return audits


def test_a_published_round_opens_one_audit_of_a_quarter_of_its_updates(court: Stand) -> None:
    round_id = play_round(court, *VETERANS)
    (audit,) = open_audits(court)
    assert (audit.round_id, audit.auditors, audit.verdict) == (round_id, 3, None)
    assert audit.client_id in VETERANS
    (entry,) = [entry for entry in court.journal("audit_opened") if entry.round_id == round_id]
    assert "salt" not in json.loads(entry.payload)


def test_a_job_that_does_not_ask_for_audits_has_none(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(audited_job(auditors=0))
    stand.join(*VETERANS)
    play_round(stand, *VETERANS)
    assert open_audits(stand) == []


def test_a_client_that_did_not_say_it_can_is_given_no_audit(court: Stand) -> None:
    """A client of the first API, or of a former version, would not know what to do."""
    play_round(court, *VETERANS)
    court.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    kinds = {court.lease(name, evaluates=False).task.kind for name in VETERANS}
    assert kinds == {TaskKind.TRAIN}


def test_nobody_judges_the_own_update_and_nobody_judges_twice(court: Stand) -> None:
    play_round(court, *VETERANS)
    (audit,) = open_audits(court)
    court.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    assert take(court, audit.client_id) is None
    judge_once = next(name for name in VETERANS if name != audit.client_id)
    answer(court, judge_once, SAME)
    assert take(court, judge_once) is None


def test_newcomers_judge_nobody(court: Stand) -> None:
    court.join("newcomer")
    play_round(court, *VETERANS)
    court.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    assert take(court, "newcomer") is None


def test_whoever_is_in_doubt_judges_nobody(court: Stand) -> None:
    play_round(court, *VETERANS)
    doubtful = judge(court, WORSE).client_id
    play_round(court, *VETERANS)
    court.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    assert take(court, doubtful) is None


def test_no_more_take_part_than_are_wanted(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(audited_job(auditors=1))
    stand.join(*VETERANS)
    make_veterans(stand, *VETERANS)
    play_round(stand, *VETERANS)
    stand.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    assert len([name for name in VETERANS if take(stand, name) is not None]) == 1


def test_an_auditor_whose_lease_runs_out_makes_room_for_another(court: Stand) -> None:
    play_round(court, *VETERANS)
    (audit,) = open_audits(court)
    court.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    others = [name for name in VETERANS if name != audit.client_id]
    for name in others:
        assert take(court, name) is not None
    court.clock.advance(61)
    court.work()
    standing = court.core.reputation.of(others[0]).standing
    assert (standing.dropouts, len(court.journal("task_expired"))) == (0, 3)
    with court.core.store.snapshot() as records:
        assert records.audits.open_to(ClientId("stranger"), audit.job_id, now=court.clock.now()) == [audit]


def test_a_good_update_passes_and_raises_integrity(court: Stand) -> None:
    play_round(court, *VETERANS)
    (audit,) = open_audits(court)
    before = court.core.reputation.of(audit.client_id)
    closed = judge(court, BETTER)
    after = court.core.reputation.of(audit.client_id)
    assert (closed.verdict, closed.score) == (Verdict.PASSED, 0.5)
    assert after.standing.audits_passed == before.standing.audits_passed + 1
    assert after.parts["integrity"].score > before.parts["integrity"].score
    assert after.parts["integrity"].reasons[-1].event == "audit_passed"


def test_three_bad_scores_in_a_row_are_a_failure(court: Stand) -> None:
    audits = judge_again_and_again(court, WORSE, 3)
    assert len({audit.client_id for audit in audits}) == 1
    assert [audit.verdict for audit in audits] == [Verdict.DOUBTFUL, Verdict.DOUBTFUL, Verdict.FAILED]
    standing = court.core.reputation.of(audits[0].client_id).standing
    assert (standing.audits_failed, standing.is_newcomer, standing.quota.per_day) == (1, True, 1)
    assert standing.integrity.bad == 5.0


def test_a_good_score_between_them_clears_the_doubt(court: Stand) -> None:
    first, second = judge_again_and_again(court, WORSE, 2)
    play_round(court, *VETERANS)
    cleared = judge(court, BETTER)
    assert cleared.client_id == first.client_id == second.client_id
    assert not court.core.reputation.of(first.client_id).standing.is_suspicious


def test_a_failure_takes_back_what_the_update_earned_and_nothing_else(court: Stand) -> None:
    before = {name: court.core.incentives.of(name).holding.micro_tokens for name in VETERANS}
    audits = judge_again_and_again(court, WORSE, 3)
    guilty = audits[-1].client_id
    balance = court.core.incentives.of(guilty)
    earned = {line.round_id: 0 for line in balance.lines if line.round_id is not None}
    for line in balance.lines:
        if line.round_id is not None:
            earned[line.round_id] += line.settled + line.pending
    assert earned[audits[-1].round_id] == 0
    assert all(earned[audit.round_id] > 0 for audit in audits[:-1])
    assert balance.holding.micro_tokens > before[guilty]
    back = [line for line in balance.lines if line.kind == "reversal"]
    assert {line.reason for line in back} == {"audit_failed"}
    assert balance.results_to_release == 10


def test_a_failure_leaves_what_was_settled(court: Stand) -> None:
    """Escrow is there for what turns out to be bad; what was earned beyond doubt, only a person may take back."""
    with court.core.store.transaction() as records:
        for name in VETERANS:
            records.earnings.put(name, asdict(Earner(valid_in_a_row=NEWCOMER_RESULTS)))
    audits = judge_again_and_again(court, WORSE, 3)
    guilty = court.core.incentives.of(audits[-1].client_id)
    assert audits[-1].verdict is Verdict.FAILED
    assert guilty.holding.settled == sum(line.settled for line in guilty.lines if line.kind == "grant")
    assert {line.kind for line in guilty.lines} == {"grant"}
    assert (guilty.results_to_release, guilty.holding.pending) == (10, 0)
    court.clock.advance(DAY_SECONDS)
    play_round(court, *VETERANS)
    assert court.core.incentives.of(audits[-1].client_id).holding.pending > 0, "what comes now is looked at first"


def test_one_lying_judge_changes_nothing(court: Stand) -> None:
    play_round(court, *VETERANS)
    (audit,) = open_audits(court)
    court.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    liar, *honest = (name for name in VETERANS if name != audit.client_id)
    answer(court, liar, (1.0, None))
    for name in honest:
        answer(court, name, SAME)
    with court.core.store.snapshot() as records:
        assert records.audits.get(audit.audit_id).verdict is Verdict.PASSED


@pytest.mark.parametrize(("answers", "verdict"), [(0, Verdict.UNDECIDED), (1, Verdict.UNDECIDED), (2, Verdict.PASSED)])
def test_when_the_time_is_over_more_than_half_must_have_answered(court: Stand, answers: int, verdict: Verdict) -> None:
    play_round(court, *VETERANS)
    (audit,) = open_audits(court)
    court.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    others = [name for name in VETERANS if name != audit.client_id]
    for name in others[:answers]:
        answer(court, name, BETTER)
    waiting = take(court, others[-1])
    assert waiting is not None
    court.core.tasks.heartbeat(waiting.task.client_id, waiting.task.task_id, progress=0.0)
    court.clock.jump(AUDIT_SECONDS)
    court.core.audits.close_overdue()
    with court.core.store.snapshot() as records:
        assert records.audits.get(audit.audit_id).verdict is verdict
        assert records.tasks.get(waiting.task.task_id).state is TaskState.CANCELLED
    with pytest.raises(LeaseExpired):
        court.core.audits.record(waiting.task.client_id, waiting.task.task_id, num_samples=1, base_loss=1, loss=1)


def test_undecided_changes_nothing(court: Stand) -> None:
    play_round(court, *VETERANS)
    (audit,) = open_audits(court)
    before = court.core.reputation.of(audit.client_id).standing
    close_all(court)
    assert court.core.reputation.of(audit.client_id).standing == before


def test_an_answer_that_comes_twice_counts_once(court: Stand) -> None:
    play_round(court, *VETERANS)
    (audit,) = open_audits(court)
    court.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    name = next(name for name in VETERANS if name != audit.client_id)
    assignment = take(court, name)
    assert assignment is not None
    for loss in (1.0, 99.0):
        task = court.core.audits.record(ClientId(name), assignment.task.task_id, num_samples=1, base_loss=1, loss=loss)
        assert task.state is TaskState.REPORTED
    with court.core.store.snapshot() as records:
        assert [report.loss for report in records.audit_reports.of_audit(audit.audit_id) if report.loss] == [1.0]


def test_the_update_is_shown_to_its_auditor_and_to_nobody_else(court: Stand) -> None:
    play_round(court, *VETERANS)
    (audit,) = open_audits(court)
    court.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    name, other = [name for name in VETERANS if name != audit.client_id][:2]
    assignment = take(court, name)
    assert assignment is not None
    task_id = assignment.task.task_id
    update = court.core.audits.audited_update(ClientId(name), task_id)
    assert update.update_id == audit.update_id
    assert assignment.version.version == update.base_version
    for stranger in (other, audit.client_id):
        with pytest.raises(TaskNotFound):
            court.core.audits.audited_update(ClientId(stranger), task_id)
    answer(court, name, SAME)
    with pytest.raises(LeaseExpired):
        court.core.audits.audited_update(ClientId(name), task_id)


def test_a_task_of_another_kind_is_no_audit(court: Stand) -> None:
    close_all(court)
    task = court.lease("anna", evaluates=False).task
    with pytest.raises(TaskNotFound):
        court.core.audits.audited_update(task.client_id, task.task_id)
    with pytest.raises(TaskNotFound):
        court.core.audits.record(task.client_id, task.task_id, num_samples=1, base_loss=1, loss=1)


def test_an_audit_closes_no_round_and_holds_none_open(court: Stand) -> None:
    play_round(court, *VETERANS)
    court.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    (audit,) = open_audits(court)
    auditor = next(name for name in VETERANS if name != audit.client_id)
    assert take(court, auditor) is not None
    states = [round_.state for round_ in court.rounds()]
    assert states[-1] == "OPEN"


def test_audits_are_told_for_each_round(court: Stand) -> None:
    round_id = play_round(court, *VETERANS)
    closed = judge(court, BETTER)
    (view,) = court.core.audits.of_round(round_id)
    assert (view.audit, view.reported) == (closed, 3)
    with pytest.raises(RoundNotFound):
        court.core.audits.of_round(9999)


def test_proven_clients_are_audited_less_often(court: Stand) -> None:
    """With 100 passed audits each, one round in a hundred or so has one."""
    with court.core.store.transaction() as records:
        for name in VETERANS:
            kept = records.standings.get(name)
            records.standings.put(name, {**kept, "audits_passed_in_a_row": 100})
    opened = len(court.journal("audit_opened"))
    for _ in range(20):
        play_round(court, *VETERANS)
    assert len(court.journal("audit_opened")) - opened <= 5


def test_a_planner_that_begins_anew_opens_no_second_audit(court: Stand) -> None:
    play_round(court, *VETERANS)
    before = [entry.seq for entry in court.journal("audit_opened")]
    with court.core.store.transaction() as records:
        records.journal.move_cursor("audits", 0, {})
    AuditPlanner(court.core.store, court.clock, np.random.default_rng(5)).catch_up()
    assert [entry.seq for entry in court.journal("audit_opened")] == before


def test_old_cases_are_not_opened_after_a_long_absence(court: Stand) -> None:
    leases = {name: court.lease(name, evaluates=False) for name in VETERANS}
    for name in VETERANS:
        court.send(name, leases[name], body_for(leases[name]))
    (versions,) = (duty for duty in court.core.worker._duties if duty.name == "versions")
    assert versions.run()
    court.clock.advance(AUDIT_SECONDS)
    court.work()
    assert open_audits(court) == []


def test_without_the_reputations_reader_nobody_judges_and_the_training_goes_on(court: Stand) -> None:
    with court.core.store.transaction() as records:
        records.standings.clear()
        assert standing_of(records, ClientId("anna")) is None
    play_round(court, *VETERANS)
    court.clock.advance(20 * LOTTERY_DOUBLES_SECONDS)
    assert court.lease("anna", audits=True, evaluates=False).task.kind is TaskKind.TRAIN
