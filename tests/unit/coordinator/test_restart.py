"""A coordinator may end at any moment; the next one goes on, and the models are those of a run without a break."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fed_compute.coordinator.folding import RoundFold
from fed_compute.coordinator.publisher import LEASE_SECONDS
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.coordinator.wiring import ALONE
from fed_compute.errors import RoundOver
from fed_compute.ids import RoundId
from fed_compute.rounds.records import JobState, RoundState, TaskKind, TaskState
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

VALUES = {"anna": 0.1, "bob": 1 / 3}


class Story:
    """Two clients train two rounds, act by act. Leases are kept as a client keeps them: only the assignment."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.leases: dict[str, Assignment] = {}

    def acts(self) -> list[Callable[[], None]]:
        """Return everything that happens, in order."""
        one_round: list[Callable[[], None]] = [
            lambda: self.take("anna"),
            lambda: self.take("bob"),
            lambda: self.answer("anna"),
            lambda: self.stand.work(),
            lambda: self.answer("bob"),
            lambda: self.stand.work(),
        ]
        return [self.begin, *one_round, *one_round]

    def begin(self) -> None:
        self.stand.create(tiny_job(total=2, min_updates=2, sections={"aggregation": {"server_optimizer": "momentum"}}))
        self.stand.join(*VALUES)

    def take(self, name: str) -> None:
        self.leases[name] = self.stand.lease(name)

    def answer(self, name: str) -> None:
        self.stand.send(name, self.leases[name], body_for(self.leases[name], VALUES[name]))


NUM_ACTS = 13


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The chain digests of a run without a break."""
    stand = Stand(tmp_path_factory.mktemp("unbroken"), database_url="sqlite://")
    acts = Story(stand).acts()
    assert len(acts) == NUM_ACTS
    for act in acts:
        act()
    chains = [str(version.chain) for version in stand.versions()]
    stand.close()
    return chains


@pytest.mark.parametrize("place", range(1, NUM_ACTS // 2 + 2))
def test_a_restart_after_any_act_changes_nothing(tmp_path: Path, unbroken: list[str], place: int) -> None:
    stand = Stand(tmp_path / "data")
    for number, act in enumerate(Story(stand).acts(), start=1):
        act()
        if number == place:
            stand.restart()
    stand.work()
    assert [version.chain for version in stand.versions()] == unbroken
    assert stand.core.jobs.default().state is JobState.FINISHED
    assert stand.breaches() == ()
    stand.close()


@pytest.mark.parametrize("place", [2, 4, 6])
def test_a_power_cut_after_any_answer_loses_nothing(tmp_path: Path, unbroken: list[str], place: int) -> None:
    """What lies on the disk at this moment, without any goodbye, is enough to go on."""
    stand = Stand(tmp_path / "data")
    story = Story(stand)
    acts = story.acts()
    for act in acts[:place]:
        act()
    shutil.copytree(tmp_path / "data", tmp_path / "copy", ignore=shutil.ignore_patterns("lock"))
    stand.close()
    survivor = Stand(tmp_path / "copy")
    survivor.keys, story.stand = stand.keys, survivor
    survivor.core.tasks.revive_leases()
    for act in acts[place:]:
        act()
    survivor.work()
    assert [version.chain for version in survivor.versions()] == unbroken
    assert survivor.breaches() == ()
    survivor.close()


def test_an_update_whose_process_died_between_blob_and_commit_is_sent_again_and_counts_once(durable: Stand) -> None:
    durable.join("anna", "bob")
    assignment = durable.lease("anna")
    durable.core.blobs.put(body_for(assignment))
    durable.restart()
    assert durable.updates() == []
    durable.send("anna", assignment, body_for(assignment))
    assert len(durable.updates()) == 1


def test_a_client_whose_answer_was_lost_in_the_crash_gets_the_same_answer_again(durable: Stand) -> None:
    durable.join("anna", "bob")
    assignment = durable.lease("anna")
    first = durable.send("anna", assignment, body_for(assignment))
    durable.restart()
    again = durable.send("anna", assignment, body_for(assignment))
    assert (again.repeated, again.update) == (True, first.update)


def test_a_process_that_died_while_it_folded_is_replaced(durable: Stand) -> None:
    durable.join("anna", "bob")
    for name in ("anna", "bob"):
        durable.report(name)
    with durable.core.store.transaction() as records:
        now = durable.clock.now()
        records.rounds.claim(RoundId(1), worker="the one that died", now=now, until=now + LEASE_SECONDS)
    durable.restart()
    durable.work()
    assert durable.round().state is RoundState.AGGREGATING
    durable.clock.advance(LEASE_SECONDS + 1)
    durable.work()
    assert durable.round().state is RoundState.CLOSED


def test_a_coordinator_alone_takes_up_at_once_what_it_folded_when_it_died(durable: Stand) -> None:
    durable.join("anna", "bob")
    for name in ("anna", "bob"):
        durable.report(name)
    with durable.core.store.transaction() as records:
        now = durable.clock.now()
        records.rounds.claim(RoundId(1), worker=ALONE, now=now, until=now + LEASE_SECONDS)
    durable.restart()
    durable.work()
    assert durable.round().state is RoundState.CLOSED


def test_a_model_that_was_stored_but_not_recorded_is_made_again_to_the_same_bytes(durable: Stand) -> None:
    durable.join("anna", "bob")
    for name in ("anna", "bob"):
        durable.report(name, VALUES[name])
    fold = RoundFold(durable.core.jobs.default(), durable.core.blobs, base_version=1)
    fold.add(durable.updates())
    weights = {update.update_id: 10.0 for update in durable.updates()}
    made = fold.finish(durable.core.models.get(durable.versions()[0].digest), None, weights=weights)
    stored = durable.core.models.put(made.model)
    durable.restart()
    durable.work()
    assert durable.versions()[-1].digest == stored


def test_a_round_whose_deadline_came_while_the_coordinator_was_away_ends_at_the_start(durable: Stand) -> None:
    durable.join("anna", "bob")
    durable.report("anna")
    waiting = durable.lease("bob")
    durable.clock.advance(500)
    durable.restart()
    durable.work()
    assert durable.round().state is RoundState.CLOSED
    assert durable.task(waiting).state is TaskState.CANCELLED


def test_an_outage_past_a_deadline_is_nobodys_dropout(durable: Stand) -> None:
    """The coordinator was away: nobody could report, whatever it did."""
    durable.join("anna", "bob")
    leases = [durable.lease("anna"), durable.lease("bob", heartbeats=False)]
    durable.clock.advance(3600)
    durable.restart()
    durable.work()
    assert [durable.task(lease).state for lease in leases] == [TaskState.CANCELLED] * 2
    assert durable.journal("task_expired") == []
    for name in ("anna", "bob"):
        reputation = durable.core.reputation.of(name)
        assert (reputation.standing.dropouts, reputation.measures.reputation_score) == (0, 0.5)
    assert durable.rounds()[-1].state is RoundState.OPEN


def test_what_comes_after_an_outage_past_the_deadline_is_late_and_no_dropout(durable: Stand) -> None:
    durable.join("anna", "bob")
    assignment = durable.lease("anna")
    durable.clock.advance(3600)
    durable.restart()
    durable.work()
    with pytest.raises(RoundOver, match="not as a failure"):
        durable.send("anna", assignment, body_for(assignment))
    assert durable.task(assignment).state is TaskState.LATE


def test_a_measurement_that_ran_out_while_the_coordinator_was_away_is_taken_back_too(durable: Stand) -> None:
    durable.create(tiny_job("measured", sections={"evaluation": {"every_rounds": 1}}))
    durable.join("anna")
    for _ in range(2):
        assignment = durable.lease("anna", job="measured")
        if assignment.task.kind is TaskKind.TRAIN:
            durable.send("anna", assignment, body_for(assignment))
            durable.work()
    assert assignment.task.kind is TaskKind.EVALUATE
    durable.clock.advance(3600)
    durable.restart()
    assert durable.task(assignment).state is TaskState.CANCELLED


def test_a_lease_survives_a_restart_and_is_still_the_only_one(durable: Stand) -> None:
    durable.join("anna")
    task = durable.lease("anna").task
    durable.restart()
    assert durable.lease("anna").task.task_id == task.task_id
    assert len(durable.journal("task_assigned")) == 1
