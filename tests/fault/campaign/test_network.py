"""Each kind of bad line once in each run of the tests."""

import random
from pathlib import Path

import pytest

from tests.fault.campaign.network import proxy_faults
from tests.fault.campaign.proxy import LINES
from tests.fault.campaign.session import Ground


@pytest.mark.timeout(300)
def test_no_line_however_bad_loses_or_doubles_an_update(tmp_path: Path) -> None:
    outcome = proxy_faults(Ground(tmp_path, random.Random(4), warm=True), len(LINES), seconds=0.5)
    assert outcome.complaints() == []
    assert outcome.details.keys() == LINES.keys()
