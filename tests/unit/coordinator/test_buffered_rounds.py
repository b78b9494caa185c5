"""FedBuff through the whole coordinator: leases outlive rounds, stale updates weigh less, and nothing else changes."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fed_compute.coordinator.async_round_manager import Arrival
from fed_compute.coordinator.folding import read_manifest
from fed_compute.coordinator.task_assigner import Assignment, NothingToDo
from fed_compute.errors import BufferBusy, LeaseExpired, RoundOver, UpdateCopied, UpdateTooStale
from fed_compute.ids import ClientId, RoundId
from fed_compute.rounds.leases import SHORTEST_SOFT_SECONDS
from fed_compute.rounds.records import JobState, RoundMode, RoundState, TaskState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.databases import IN_MEMORY
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

NAMES = ("anna", "bob", "carl", "dora", "emil")


def buffered_job(*, sections: dict[str, Any] | None = None, name: str = "default", **rounds: Any) -> Any:
    """Return a job whose buffers hold two updates, with four leases out at once."""
    wanted = {"mode": "fedbuff", "over_selection": "auto", "concurrency": 4, "max_staleness": 8, **rounds}
    return tiny_job(name, sections=sections, **wanted)


@pytest.fixture
def buffered(open_stand: OpenStand) -> Any:
    """A coordinator with the buffered job and five clients. The invariants hold at the end."""
    stand = open_stand()
    stand.create(buffered_job())
    stand.join(*NAMES)
    yield stand
    assert stand.breaches() == ()


def send(stand: Stand, name: str, lease: Assignment, value: float = 0.1, *, samples: int = 10) -> RoundId:
    """Let a client answer a lease, run the duties, and return the round that counts the update."""
    round_id = stand.send(name, lease, body_for(lease, value, samples=samples)).update.round_id
    stand.work()
    return round_id


def fill_a_buffer(stand: Stand, *names: str, value: float = 0.1) -> None:
    """Let some clients take a lease each and answer it."""
    for name in names:
        send(stand, name, stand.lease(name), value)


def weights(stand: Stand, version: int) -> list[float]:
    """Return the weights in a version's manifest, in folding order."""
    return [weight for *_, weight in read_manifest(stand.versions()[version - 1].manifest)]


def moved(stand: Stand, version: int) -> float:
    """Return how far the first parameter moved to a version."""
    return stand.model(version)[0] - stand.model(version - 1)[0]


# --- stale updates count, for less ------------------------------------------------------------------


def test_an_update_whose_round_has_closed_counts_in_the_present_one(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    fill_a_buffer(buffered, "anna", "bob")
    assert buffered.round(1).state is RoundState.CLOSED
    assert send(buffered, "carl", slow) == 2
    second = buffered.round(2)
    assert (second.state, second.base_version) == (RoundState.COLLECTING, 2)
    (update,) = buffered.updates(2)
    assert (update.client_id, update.base_version) == ("carl", 1)
    assert json.loads(buffered.journal("update_accepted")[-1].payload)["staleness"] == 1


def test_it_weighs_one_over_the_root_of_one_plus_its_staleness(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    for _ in range(3):
        fill_a_buffer(buffered, "anna", "bob")
    send(buffered, "carl", slow, 0.8)  # started from v1; the buffer changes v4: three versions behind
    fill_a_buffer(buffered, "dora", value=0.2)
    assert weights(buffered, 5) == [5, 10]  # 10 · 1/√4, and 10
    assert moved(buffered, 5) == pytest.approx((5 * 0.8 + 10 * 0.2) / 15, rel=1e-5)


def test_the_step_is_taken_from_the_present_version_and_not_from_the_stale_one(buffered: Stand) -> None:
    slow = [buffered.lease(name) for name in ("carl", "dora")]
    fill_a_buffer(buffered, "anna", "bob", value=0.5)
    for name, lease in zip(("carl", "dora"), slow, strict=True):
        send(buffered, name, lease, 0.25)
    assert moved(buffered, 3) == pytest.approx(0.25, rel=1e-5)  # all are equally stale: nothing is lost


def test_a_damped_job_takes_a_shorter_step_along_stale_updates(open_stand: OpenStand) -> None:
    """The paper divides by K and not by the sum of the weights."""
    stand = open_stand()
    stand.create(buffered_job(sections={"aggregation": {"damp_stale": True}}))
    stand.join(*NAMES)
    slow = stand.lease("carl")
    for _ in range(3):
        fill_a_buffer(stand, "anna", "bob")
    send(stand, "carl", slow, 0.8)
    fill_a_buffer(stand, "dora", value=0.2)
    assert moved(stand, 5) == pytest.approx((0.5 * 0.8 + 1.0 * 0.2) / 2, rel=1e-5)
    assert stand.breaches() == ()


def test_with_a_buffer_of_one_each_update_makes_a_version_by_its_own_weight(open_stand: OpenStand) -> None:
    """That is FedAsync: w ← w + 1/√(1+τ) · Δ."""
    stand = open_stand()
    aggregation = {"damp_stale": True}
    stand.create(buffered_job(target_updates=1, sections={"aggregation": aggregation}))
    stand.join(*NAMES)
    leases = {name: stand.lease(name) for name in NAMES[:4]}
    for staleness, (name, lease) in enumerate(leases.items()):
        send(stand, name, lease, 0.3)
        assert moved(stand, staleness + 2) == pytest.approx(0.3 / math.sqrt(1 + staleness), rel=1e-5)
    assert stand.breaches() == ()


def test_a_robust_rule_counts_stale_updates_for_less(open_stand: OpenStand) -> None:
    stand = open_stand()
    rounds = {"target_updates": 3, "min_updates": 3, "concurrency": 5}
    stand.create(buffered_job(**rounds, sections={"aggregation": {"rule": "median"}}))
    stand.join(*NAMES)
    slow = [stand.lease(name) for name in ("dora", "emil")]
    for _ in range(2):
        fill_a_buffer(stand, "anna", "bob", "carl")
    for name, lease in zip(("dora", "emil"), slow, strict=True):
        send(stand, name, lease, 0.9)
    fill_a_buffer(stand, "anna", value=0.2)
    assert weights(stand, 4) == pytest.approx([1 / math.sqrt(3)] * 2 + [1.0])
    assert moved(stand, 4) == pytest.approx(0.9, rel=1e-4)  # two stale ones outweigh a fresh one: 1.15 to 1
    assert stand.breaches() == ()


def test_what_a_round_found_tells_how_stale_each_update_was(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    fill_a_buffer(buffered, "anna", "bob")
    send(buffered, "carl", slow)
    fill_a_buffer(buffered, "dora")
    assert json.loads(buffered.journal("round_aggregated")[-1].payload)["staleness"] == [1, 0]


def test_the_timing_of_a_round_tells_how_stale_its_arrivals_were(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    fill_a_buffer(buffered, "anna", "bob")
    buffered.clock.advance(7)
    send(buffered, "carl", slow)
    assert buffered.core.async_rounds.stats(RoundId(2)).arrivals == [Arrival(ClientId("carl"), 7, 1)]


def test_pay_names_the_round_that_counted_the_update(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    fill_a_buffer(buffered, "anna", "bob")
    send(buffered, "carl", slow)
    fill_a_buffer(buffered, "dora")
    lines = buffered.core.incentives.of("carl").lines
    assert {line.round_id for line in lines} == {2}


# --- equal to federated averaging -------------------------------------------------------------------

FEW = settings(max_examples=settings().max_examples // 25, suppress_health_check=[HealthCheck.function_scoped_fixture])
ORDERS = st.tuples(st.permutations(NAMES[:3]), st.permutations(NAMES[:3]))


@pytest.mark.parametrize(
    "aggregation",
    [{}, {"server_optimizer": "adam", "server_lr": 0.1}, {"rule": "median"}, {"damp_stale": True}],
    ids=["fedavg", "adam", "median", "damped"],
)
@FEW
@given(orders=ORDERS)
def test_with_as_many_leases_as_a_buffer_holds_it_is_federated_averaging_byte_for_byte(
    open_stand: OpenStand, aggregation: dict[str, Any], orders: Sequence[Sequence[str]]
) -> None:
    """Concurrency K and staleness 0: every version, and the optimiser's memory, are those of synchronous rounds."""
    stand = open_stand()
    rounds = {"target_updates": 3, "min_updates": 3}
    plain = {key: value for key, value in aggregation.items() if key != "damp_stale"}
    stand.create(tiny_job("sync", **rounds, over_selection=1, sections={"aggregation": plain}))
    stand.create(buffered_job(name="fedbuff", **rounds, concurrency=3, sections={"aggregation": aggregation}))
    stand.join(*NAMES[:3])
    for job in ("sync", "fedbuff"):
        for number, order in enumerate(orders):
            leases = {name: stand.lease(name, job=job) for name in NAMES[:3]}
            for place, name in enumerate(order):
                value = 0.1 * (NAMES.index(name) + 1) / (number + 3)
                body = body_for(leases[name], value, samples=7 + NAMES.index(name))
                stand.send(name, leases[name], body)
                if place == 1:
                    stand.work()
            stand.work()
    made = [[(v.digest, v.optimizer_digest) for v in stand.versions(job_id)] for job_id in (1, 2)]
    assert made[0] == made[1]
    assert len(made[0]) == len(orders) + 1
    assert stand.breaches() == ()
    stand.close()


# --- who may work -----------------------------------------------------------------------------------


def test_no_more_leases_are_out_than_the_job_allows_whatever_round_they_began_in(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    fill_a_buffer(buffered, "anna", "bob")
    for name in ("anna", "bob", "dora"):
        buffered.lease(name)
    assert isinstance(buffered.ask("emil"), NothingToDo)
    send(buffered, "carl", slow)
    assert buffered.lease("emil").task.base_version == 2


def test_a_lease_past_its_soft_deadline_holds_no_place_and_still_counts(buffered: Stand) -> None:
    for _ in range(3):
        fill_a_buffer(buffered, "anna", "bob")
    slow = {name: buffered.lease(name) for name in ("anna", "bob", "carl", "dora")}
    assert isinstance(buffered.ask("emil"), NothingToDo)
    buffered.clock.advance(SHORTEST_SOFT_SECONDS + 1)
    fill_a_buffer(buffered, "emil")
    assert [send(buffered, name, slow[name]) for name in ("anna", "bob")] == [4, 5]


def test_what_work_takes_is_measured_on_what_the_last_rounds_counted_wherever_it_began(open_stand: OpenStand) -> None:
    """Else nobody but the fast would be looked at: the slow began in rounds of long ago."""
    stand = open_stand()
    stand.create(buffered_job(total=20, max_staleness=20))
    stand.join(*NAMES)
    slow = {name: stand.lease(name) for name in ("carl", "dora", "emil")}
    for _ in range(11):
        fill_a_buffer(stand, "anna", "bob")
        stand.core.tasks.revive_leases()
        stand.clock.advance(5)
    for name, lease in slow.items():
        send(stand, name, lease)
    fill_a_buffer(stand, "anna")
    assert stand.round(14).soft_seconds == pytest.approx(1.5 * 55)


def test_a_client_fills_one_place_of_a_buffer(buffered: Stand) -> None:
    """Else the fastest machines alone would make the model."""
    send(buffered, "anna", buffered.lease("anna"))
    assert isinstance(buffered.ask("anna"), NothingToDo)
    fill_a_buffer(buffered, "bob")
    assert buffered.lease("anna").task.round_id == 2


def test_a_stale_update_fills_its_clients_place(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    fill_a_buffer(buffered, "anna", "bob")
    send(buffered, "carl", slow)
    assert isinstance(buffered.ask("carl"), NothingToDo)


def test_a_copy_is_found_in_the_round_that_counts_it(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    fill_a_buffer(buffered, "anna", "bob")
    lease = buffered.lease("dora")
    send(buffered, "dora", lease)
    with pytest.raises(UpdateCopied):
        buffered.send("carl", slow, body_for(lease))


@pytest.mark.parametrize(
    ("rounds", "slots", "max_staleness"),
    [
        ({"target_updates": 2}, 8, 16),
        ({"target_updates": 2, "concurrency": 100}, 100, 200),
        ({"target_updates": 2, "concurrency": 100, "max_staleness": 5}, 100, 5),
    ],
)
def test_concurrency_and_the_staleness_that_is_taken_follow_from_the_buffer_unless_told(
    open_stand: OpenStand, rounds: dict[str, int], slots: int, max_staleness: int
) -> None:
    stand = open_stand()
    stand.create(buffered_job(**{"concurrency": None, "max_staleness": None, **rounds}))
    round_ = stand.round()
    assert (round_.mode, round_.slots, round_.max_staleness) == (RoundMode.FEDBUFF, slots, max_staleness)


# --- when a lease ends ------------------------------------------------------------------------------


def test_an_update_that_is_too_stale_is_refused_and_listed_as_late(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(buffered_job(max_staleness=1))
    stand.join(*NAMES)
    slow = stand.lease("carl")
    fill_a_buffer(stand, "anna", "bob")
    assert stand.task(slow).state is TaskState.LEASED
    fill_a_buffer(stand, "anna", "bob")
    assert stand.task(slow).state is TaskState.CANCELLED  # its next heartbeat says so
    with pytest.raises(UpdateTooStale, match=r"started from v1 and the model is v3 now.*at most 1 version"):
        stand.send("carl", slow, body_for(slow))
    assert stand.task(slow).state is TaskState.LATE
    assert [entry.client_id for entry in stand.journal("update_late")] == ["carl"]
    assert stand.journal("update_refused") == []  # nobody's failure
    assert stand.breaches() == ()


def test_a_lease_lasts_as_long_as_a_round_may_from_its_own_beginning(buffered: Stand) -> None:
    buffered.clock.advance(5)
    buffered.lease("anna")
    buffered.clock.advance(60)
    lease = buffered.lease("carl", heartbeats=False)
    assert lease.task.deadline == buffered.clock.now() + 100
    began = buffered.clock.now()
    beating = buffered.lease("dora")
    for _ in range(5):
        buffered.clock.advance(24)
        beating_task = buffered.core.tasks.heartbeat(ClientId("dora"), beating.task.task_id, progress=0.1)
    assert beating_task.deadline == began + 100


def test_a_lease_whose_heartbeats_stop_runs_out_in_whatever_round(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    fill_a_buffer(buffered, "anna", "bob")
    buffered.clock.advance(31)
    buffered.work()
    assert buffered.task(slow).state is TaskState.EXPIRED
    with pytest.raises(LeaseExpired):
        buffered.send("carl", slow, body_for(slow))


def test_leases_go_on_when_a_buffer_is_given_up(open_stand: OpenStand) -> None:
    """Its deadline came with too few updates. The model is still the one that they started from."""
    stand = open_stand()
    stand.create(buffered_job(min_updates=2))
    stand.join(*NAMES)
    stand.lease("anna")
    stand.clock.advance(99)
    slow = stand.lease("carl")
    stand.clock.advance(2)
    stand.work()
    assert (stand.round(1).state, stand.task(slow).state) == (RoundState.ABANDONED, TaskState.LEASED)
    assert send(stand, "carl", slow) == 2
    assert stand.breaches() == ()


def test_an_update_that_comes_while_the_buffer_is_folded_is_told_to_come_again(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    for name in ("anna", "bob"):
        buffered.report(name)
    assert buffered.round().state is RoundState.AGGREGATING
    with pytest.raises(BufferBusy, match="in a second") as told:
        buffered.send("carl", slow, body_for(slow))
    assert told.value.retry_after_seconds == 1
    assert buffered.task(slow).state is TaskState.LEASED
    buffered.work()
    assert send(buffered, "carl", slow) == 2


def test_a_finished_job_ends_all_its_leases(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(buffered_job(total=1))
    stand.join(*NAMES)
    slow = stand.lease("carl")
    fill_a_buffer(stand, "anna", "bob")
    assert stand.core.jobs.default().state is JobState.FINISHED
    assert stand.task(slow).state is TaskState.CANCELLED
    with pytest.raises(RoundOver):
        stand.send("carl", slow, body_for(slow))
    assert stand.breaches() == ()


def test_a_job_that_is_served_in_plain_rounds_from_now_on_keeps_no_old_lease(open_stand: OpenStand) -> None:
    stand = open_stand(database_url=None)
    stand.create(buffered_job())
    stand.join(*NAMES)
    slow = stand.lease("carl")
    stand.restart(enable_async_rounds=True, async_min_updates=2)
    fill_a_buffer(stand, "anna", "bob")
    assert stand.round(2).mode is RoundMode.ASYNC
    assert stand.task(slow).state is TaskState.CANCELLED
    with pytest.raises(RoundOver):
        stand.send("carl", slow, body_for(slow))
    assert stand.breaches() == ()


def test_a_client_of_the_first_api_reports_under_the_round_of_its_lease(buffered: Stand) -> None:
    slow = buffered.lease("carl", heartbeats=False)
    fill_a_buffer(buffered, "anna", "bob")
    accepted = buffered.send_json("carl", slow.task.round_id, [[0.1, 0.2], [0.3]])
    assert (accepted.update.round_id, accepted.update.base_version) == (2, 1)


# --- whatever happens -------------------------------------------------------------------------------


def test_a_restart_in_the_middle_of_a_buffer_changes_no_byte(open_stand: OpenStand) -> None:
    chains = []
    for folder, restarts in (("unbroken", False), ("broken", True)):
        stand = open_stand(folder, database_url=None)
        stand.create(buffered_job(target_updates=3, sections={"aggregation": {"server_optimizer": "momentum"}}))
        stand.join(*NAMES)
        slow = {name: stand.lease(name) for name in ("dora", "emil")}
        for name in ("anna", "bob"):
            send(stand, name, stand.lease(name))
        if restarts:
            stand.restart()
        send(stand, "carl", stand.lease("carl"))
        for name, lease in slow.items():
            send(stand, name, lease, 0.4)
            if restarts:
                stand.restart()
        send(stand, "anna", stand.lease("anna"), 0.7)
        chains.append([version.chain for version in stand.versions()])
        assert stand.breaches() == ()
    assert len(chains[0]) == 3
    assert chains[0] == chains[1]


def test_a_lease_of_an_earlier_round_survives_the_coordinators_absence(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    fill_a_buffer(buffered, "anna", "bob")
    buffered.clock.advance(60)
    buffered.core.tasks.revive_leases()
    buffered.work()
    assert buffered.task(slow).deadline == buffered.clock.now() + 30


class Fleet(RuleBasedStateMachine):
    """Whatever clients do, the records stay sound and every answer is the one that the rules name."""

    open_stand: OpenStand

    def __init__(self) -> None:
        super().__init__()
        self.leases: dict[str, Assignment] = {}
        self.counted = 0

    @initialize(
        buffer_size=st.integers(1, 3), concurrency=st.integers(1, 5), widest=st.integers(0, 2), damp=st.booleans()
    )
    def begin(self, buffer_size: int, concurrency: int, widest: int, damp: bool) -> None:
        self.stand = self.open_stand("fleet", database_url=IN_MEMORY)
        rounds = {"total": 4, "target_updates": buffer_size, "concurrency": concurrency, "max_staleness": widest}
        self.stand.create(buffered_job(**rounds, sections={"aggregation": {"damp_stale": damp}}))
        self.stand.join(*NAMES)

    def teardown(self) -> None:
        if hasattr(self, "stand"):
            self.stand.work()
            assert self.stand.breaches() == ()
            self.stand.close()

    @rule(name=st.sampled_from(NAMES), heartbeats=st.booleans())
    def asks(self, name: str, heartbeats: bool) -> None:
        found = self.stand.ask(name, heartbeats=heartbeats)
        if isinstance(found, Assignment):
            self.leases[name] = found

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), value=st.floats(0.1, 1.0))
    def answers(self, data: st.DataObject, value: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.leases)))
        lease = self.leases[name]
        state = self.stand.task(lease).state
        try:
            update = self.stand.send(name, lease, body_for(lease, value)).update
        except BufferBusy:
            assert state is TaskState.LEASED
            return
        except (UpdateTooStale, LeaseExpired, RoundOver):
            assert state is not TaskState.LEASED
        else:
            self.counted += state is TaskState.LEASED
            round_ = self.stand.round(update.round_id)
            assert 0 <= round_.base_version - update.base_version <= round_.max_staleness
        del self.leases[name]

    @rule(seconds=st.integers(1, 60))
    def time_passes(self, seconds: int) -> None:
        self.stand.clock.advance(seconds)

    @rule()
    def the_duties_run(self) -> None:
        self.stand.work()

    @invariant()
    def no_more_leases_are_out_than_allowed(self) -> None:
        if hasattr(self, "stand"):
            round_ = self.stand.round()
            with self.stand.core.store.snapshot() as records:
                assert records.leases.count(round_.job_id) <= round_.slots

    @invariant()
    def every_update_that_was_accepted_is_on_record(self) -> None:
        if hasattr(self, "stand"):
            assert sum(len(self.stand.updates(round_.round_id)) for round_ in self.stand.rounds()) == self.counted


def test_whatever_the_fleet_does_the_records_stay_sound(open_stand: OpenStand) -> None:
    class Opened(Fleet):
        pass

    Opened.open_stand = staticmethod(open_stand)
    few = settings(max_examples=settings().max_examples // 8, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(Opened, settings=few)
