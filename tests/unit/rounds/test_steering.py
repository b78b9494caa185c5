"""What an operator's word makes of a job, as a table."""

import pytest

from fed_compute.rounds.records import JobState
from fed_compute.rounds.steering import Act, steered

RUNNING, PAUSED, FINISHED, STOPPED = JobState.RUNNING, JobState.PAUSED, JobState.FINISHED, JobState.STOPPED
TABLE = {
    (RUNNING, Act.PAUSE): PAUSED,
    (RUNNING, Act.RESUME): RUNNING,
    (RUNNING, Act.STOP): STOPPED,
    (PAUSED, Act.PAUSE): PAUSED,
    (PAUSED, Act.RESUME): RUNNING,
    (PAUSED, Act.STOP): STOPPED,
    (FINISHED, Act.PAUSE): None,
    (FINISHED, Act.RESUME): None,
    (FINISHED, Act.STOP): None,
    (STOPPED, Act.PAUSE): None,
    (STOPPED, Act.RESUME): None,
    (STOPPED, Act.STOP): STOPPED,
}


@pytest.mark.parametrize(("state", "act"), TABLE)
def test_an_act_leads_to_one_state_or_comes_too_late(state: JobState, act: Act) -> None:
    assert steered(state, act) is TABLE[state, act]


def test_the_table_is_complete() -> None:
    assert set(TABLE) == {(state, act) for state in JobState for act in Act}
