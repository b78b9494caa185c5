"""The wall clock jumps, each way once in each run of the tests."""

import random
from pathlib import Path

from tests.fault.campaign.clocks import clock_jumps
from tests.fault.campaign.session import Ground


def test_no_jump_of_the_clock_stops_training_or_loses_an_update(tmp_path: Path) -> None:
    outcome = clock_jumps(Ground(tmp_path, random.Random(7)), 2)
    assert outcome.complaints() == []
    assert outcome.trials == 2
