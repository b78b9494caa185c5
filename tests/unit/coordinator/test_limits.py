"""The limits of a round's updates: known before its first update, the same for all of them, and found again."""

import math

import pytest

from fed_compute.coordinator.limits import LimitBook
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.ids import RoundId
from fed_compute.rounds.limits import RECENT_ROUNDS
from fed_compute.rounds.records import Job
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_of, tiny_job

WIDEST = 10 * 3**0.5
NAMES = tuple(f"client-{number}" for number in range(10))


def limit_now(stand: Stand) -> float:
    """Return the limit on the norm in the newest round, found out anew."""
    fresh = LimitBook(stand.core.store, stand.core.models, max_update_norm=None, max_num_samples=None)
    with stand.core.store.snapshot() as records:
        (job,) = records.jobs.all()
    return fresh.of(job, stand.rounds()[-1].round_id).max_norm


def play_round(stand: Stand, length: float, *, names: tuple[str, ...] = NAMES) -> None:
    """Let clients send updates of one norm, each in a direction of its own."""
    leases = {name: stand.lease(name) for name in names}
    for number, (name, lease) in enumerate(leases.items()):
        delta = [length * math.cos(number / 10), length * math.sin(number / 10), 0]
        stand.send(name, lease, body_of(lease, delta))
    stand.work()


def test_a_limit_holds_for_a_whole_round_whatever_comes_in_it(open_stand: OpenStand) -> None:
    """So an update's fate does not depend on who was faster, and every client can be told it beforehand."""
    stand = open_stand()
    stand.create(tiny_job(total=9, target_updates=10))
    stand.join(*NAMES)
    for _ in range(4):
        play_round(stand, 1.0)
    last = stand.lease(NAMES[-1])
    play_round(stand, 1.0, names=NAMES[:-1])
    assert limit_now(stand) == WIDEST
    stand.send(NAMES[-1], last, body_of(last, [0, 12.0, 0]))
    stand.work()
    assert limit_now(stand) == pytest.approx(3.0)


def test_every_process_finds_the_same_limit_and_a_restart_changes_nothing(open_stand: OpenStand) -> None:
    stand = open_stand(database_url=None)
    stand.create(tiny_job(total=9, target_updates=10))
    stand.join(*NAMES)
    for number in range(5):
        play_round(stand, 1.0 + number / 100)
    before, held = limit_now(stand), stand.core.limits.of(*job_and_round(stand))
    stand.restart()
    assert limit_now(stand) == before == held.max_norm
    assert stand.core.limits.of(*job_and_round(stand)) == held


def job_and_round(stand: Stand) -> tuple[Job, RoundId]:
    """Return the only job and its newest round."""
    with stand.core.store.snapshot() as records:
        (job,) = records.jobs.all()
    return job, stand.rounds()[-1].round_id


def test_a_fleet_that_has_changed_is_let_in_when_its_rounds_have_failed_for_long_enough(open_stand: OpenStand) -> None:
    """No job comes to a standstill for ever because all of its clients now send longer updates."""
    stand = open_stand()
    stand.create(tiny_job(total=200, target_updates=10, deadline_seconds=5))
    stand.join(*NAMES)
    for _ in range(5):
        play_round(stand, 1.0)
    failed = 0
    while limit_now(stand) < WIDEST:
        lease = stand.ask(NAMES[0])
        assert isinstance(lease, Assignment)
        stand.clock.advance(6)
        stand.work()
        failed += 1
    assert failed == RECENT_ROUNDS - 5 + 1  # the first of the fifty updates is forgotten
