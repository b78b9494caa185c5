"""A starting coordinator says what the last one left, mends what it can, and starts on nothing that is gone."""

import json
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from fed_compute.coordinator.publisher import VersionPublisher
from fed_compute.coordinator.recovery import RecoveryReport
from fed_compute.errors import BlobMissing
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, tiny_job

LONG_SECONDS = 1000.0
"""Longer than a lease, shorter than the rounds."""


@pytest.fixture
def stand(open_stand: OpenStand) -> Stand:
    """A coordinator without a job."""
    return open_stand()


@pytest.fixture
def _every_line() -> Iterator[None]:
    """Let every line be logged, whatever this process was told before."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


def take_up(stand: Stand) -> RecoveryReport:
    """Start as a new process does, but for the duties."""
    return stand.core.recovery.take_up()


def journalled(stand: Stand) -> list[dict[str, int]]:
    """Return what each start wrote down."""
    with stand.core.store.snapshot() as records:
        return [json.loads(entry.payload) for entry in records.journal.after(0) if entry.kind == "recovered"]


@pytest.mark.usefixtures("_every_line")
def test_a_first_start_finds_nothing_and_says_so_in_one_line(stand: Stand) -> None:
    with capture_logs() as lines:
        report = take_up(stand)
    assert not report.found_anything
    assert [line["event"] for line in lines] == ["recovered"]
    assert journalled(stand) == []


def test_the_report_counts_what_was_under_way(stand: Stand) -> None:
    stand.create(tiny_job(target_updates=3, min_updates=3))
    stand.join("anna", "bob", "carol")
    stand.report("anna", 0.1)
    stand.lease("bob")
    report = take_up(stand)
    assert report == RecoveryReport(
        rounds_collecting=1, rounds_to_publish=0, updates_kept=1, leases_kept=1, leases_revived=0
    )
    assert journalled(stand) == []  # nothing had to be mended


def test_a_lease_that_ran_out_while_nobody_was_there_is_revived_and_written_down(stand: Stand) -> None:
    stand.create(tiny_job(deadline_seconds=10 * LONG_SECONDS))
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    stand.clock.advance(LONG_SECONDS)
    assert assignment.task.deadline < stand.clock.now()
    assert take_up(stand).leases_revived == 1
    assert [entry["leases_revived"] for entry in journalled(stand)] == [1]
    assert not stand.core.tasks.expire_leases()
    assert take_up(stand).leases_revived == 0  # and not a second time


def test_a_round_that_was_closing_is_told_and_published_by_the_next_process(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.create(tiny_job(min_updates=2))
    stand.join("anna", "bob")
    with monkeypatch.context() as patch:
        patch.setattr(VersionPublisher, "advance", lambda self: False)
        stand.report("anna", 0.1)
        stand.report("bob", 0.2)
        stand.core.rounds.look_at_all()
    report = take_up(stand)
    assert (report.rounds_to_publish, report.updates_kept) == (1, 2)
    stand.work()
    assert len(stand.versions()) == 2


def test_nothing_starts_when_an_accepted_update_is_gone(stand: Stand) -> None:
    """Going on would count the round without an update that was promised to count."""
    stand.create(tiny_job(target_updates=3, min_updates=3))
    stand.join("anna", "bob", "carol")
    update = stand.report("anna", 0.1)
    stand.core.blobs.remove(update.digest)
    with pytest.raises(BlobMissing, match=f"{update.digest}.*restore a backup"):
        stand.core.start()
    assert stand.core.recovery.report is None


def test_nothing_starts_when_the_newest_model_is_gone(stand: Stand) -> None:
    stand.create(tiny_job())
    stand.core.blobs.remove(stand.versions()[-1].digest)
    with pytest.raises(BlobMissing):
        stand.core.start()
