"""What becomes of a job when an operator pauses, resumes or stops it.

RUNNING ⇄ PAUSED ──▶ STOPPED, from either; FINISHED and STOPPED are final
"""

from enum import StrEnum

from fed_compute.rounds.machine import JobPaused, JobResumed, JobStopped, RoundEvent
from fed_compute.rounds.records import OVER_JOB_STATES, JobState

STOPPED_REASON = "an operator stopped the job"


class Act(StrEnum):
    """What an operator does to a job. The value is what the job is afterwards."""

    PAUSE = "paused"
    RESUME = "resumed"
    STOP = "stopped"


_RESULTS = {Act.PAUSE: JobState.PAUSED, Act.RESUME: JobState.RUNNING, Act.STOP: JobState.STOPPED}
_EVENTS: dict[Act, RoundEvent] = {
    Act.PAUSE: JobPaused(),
    Act.RESUME: JobResumed(),
    Act.STOP: JobStopped(STOPPED_REASON),
}


def steered(state: JobState, act: Act) -> JobState | None:
    """Return a job's state after an act, the same one if there is nothing to do, None if it is too late for that."""
    wanted = _RESULTS[act]
    return None if state in OVER_JOB_STATES and state is not wanted else wanted


def told_to_round(act: Act) -> RoundEvent:
    """Return what the job's live round is told of an act."""
    return _EVENTS[act]
