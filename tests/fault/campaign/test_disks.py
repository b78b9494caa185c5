"""A disk that fails, in each way once, in each run of the tests."""

import random
from pathlib import Path

import pytest

from tests.fault.campaign.disk import why_no_disk
from tests.fault.campaign.disks import (
    failing_disks,
    flipped_models,
    flipped_updates,
    full_disks,
    power_cuts,
    quotas,
    read_only_disks,
)
from tests.fault.campaign.session import Ground


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path, random.Random(5), warm=True)


@pytest.fixture
def _own_disk() -> None:
    if (reason := why_no_disk()) is not None:
        pytest.skip(reason)


@pytest.mark.usefixtures("_own_disk")
def test_what_was_acknowledged_outlives_a_power_cut(ground: Ground) -> None:
    assert power_cuts(ground, 1).complaints() == []


@pytest.mark.usefixtures("_own_disk")
def test_a_coordinator_that_does_not_sync_is_found_out_by_a_power_cut(ground: Ground) -> None:
    """A campaign that cannot find a planted fault proves nothing."""
    with pytest.raises(AssertionError):
        assert power_cuts(ground, 1, synced=False).complaints() == []


@pytest.mark.usefixtures("_own_disk")
def test_a_full_disk_is_told_and_forgotten_when_there_is_room_again(ground: Ground) -> None:
    outcome = full_disks(ground, 1)
    assert outcome.complaints() == []
    assert outcome.answers[507] > 0


@pytest.mark.usefixtures("_own_disk")
def test_a_disk_that_turns_read_only_is_told_and_loses_nothing(ground: Ground) -> None:
    assert read_only_disks(ground, 1).complaints() == []


@pytest.mark.usefixtures("_own_disk")
def test_a_disk_that_answers_with_errors_loses_nothing(ground: Ground) -> None:
    assert failing_disks(ground, 1).complaints() == []


def test_a_quota_that_is_used_up_is_told_and_forgotten_when_it_is_lifted(ground: Ground) -> None:
    outcome = quotas(ground, 2)
    assert outcome.complaints() == []


def test_a_byte_that_changed_in_an_update_is_noticed_named_and_never_folded(ground: Ground) -> None:
    assert flipped_updates(ground, 1).complaints() == []


def test_a_byte_that_changed_in_a_model_is_noticed_named_and_never_given(ground: Ground) -> None:
    assert flipped_models(ground, 1).complaints() == []
