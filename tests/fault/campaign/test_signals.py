"""A few of the campaign's signals in each run of the tests."""

import random
from pathlib import Path

import pytest

from tests.fault.campaign.session import Ground
from tests.fault.campaign.signals import drains, freezes, kills

KILLS = 25


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_or_doubled_by_twenty_five_kills(tmp_path: Path) -> None:
    outcome = kills(Ground(tmp_path, random.Random(1), warm=True), KILLS, after_seconds=(0.0, 0.3))
    assert outcome.complaints() == []
    assert outcome.trials == KILLS
    assert outcome.details.keys() == {"at work", "while starting"}
    assert outcome.acknowledged >= outcome.details["at work"]


def test_a_frozen_process_goes_on_where_it_was(tmp_path: Path) -> None:
    outcome = freezes(Ground(tmp_path, random.Random(2), warm=True), 1, for_seconds=(3.5, 3.5))
    assert outcome.complaints() == []


def test_a_process_that_is_asked_to_end_ends_in_order_and_the_next_goes_on(tmp_path: Path) -> None:
    outcome = drains(Ground(tmp_path, random.Random(3), warm=True), 2)
    assert outcome.complaints() == []
    assert outcome.answers.keys() <= {200, 201, 204, 409, 410}
