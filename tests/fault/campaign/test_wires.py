"""A wire that is cut and one that loses packets, once in each run of the tests. Linux, root."""

import random
from pathlib import Path

import pytest

from tests.fault.campaign.session import Ground
from tests.fault.campaign.wire import why_no_wire
from tests.fault.campaign.wires import HARM, bad_wires


def test_no_harm_to_the_wire_loses_or_doubles_an_update(tmp_path: Path) -> None:
    if (reason := why_no_wire()) is not None:
        pytest.skip(reason)
    outcome = bad_wires(Ground(tmp_path, random.Random(8)), len(HARM), seconds=(0.5, 1.5))
    assert outcome.complaints() == []
    assert outcome.details.keys() == HARM.keys()
