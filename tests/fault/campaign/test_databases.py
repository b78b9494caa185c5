"""Somebody holds on to the database, once in each run of the tests."""

import random
from pathlib import Path

from tests.fault.campaign.databases import locked_databases
from tests.fault.campaign.session import Ground


def test_a_locked_database_is_told_as_not_now_and_training_goes_on_when_it_is_free(tmp_path: Path) -> None:
    outcome = locked_databases(Ground(tmp_path, random.Random(6)), 2, busy_seconds=0.5)
    assert outcome.complaints() == []
    assert outcome.details.keys() == {"locked", "read for long"}
    assert outcome.answers[503] > 0
