"""Leases in time: until when the work is expected, when it stands still, and why it is over.

A lease has two times. The soft deadline says when the work should be done, by what such work took
before: until then the lease holds a slot of its round, after it somebody else may take that slot as
well. The hard deadline is the round's, or as long after the lease where leases outlive their round: an update
that comes between the two counts like any other.

Source: the two times of Folding@home's work units; the detection of stragglers by a multiple of what
the others need is that of MapReduce's backup tasks (Dean and Ghemawat 2004, section 3.6).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fed_compute.rounds.records import ClientState, JobState, Round, RoundState, Task, TaskKind, TaskState

SHORTEST_SOFT_SECONDS = 10.0
"""Work is never expected sooner: a busy network must not make anybody late."""
SLACK = 1.5
QUANTILE = 0.9
LEAST_OF_JOB, LEAST_OF_CLIENT = 5, 3
"""So many measured times say something about a job, and about one client."""
OWN_TASKS = 20
"""How many of a client's last tasks say how long it takes."""
STANDSTILL = 4.0
"""A lease whose progress rests for so many times as long as the whole work should take is over."""
MISSED_HEARTBEATS = 3
EVALUATION_SECONDS = 60.0
"""The shortest lease of an evaluation or an audit."""


def lease_deadline(
    kind: TaskKind, round_: Round, *, heartbeats: bool, heartbeat_seconds: float, leased_at: float, now: float
) -> float:
    """Return until when a lease lasts, as of now: three missed heartbeats, for training never beyond its round.

    Without heartbeats it lasts as long as the round allows. While that cannot be said, because the round's
    deadline does not run, it is three heartbeats.
    """
    beats = MISSED_HEARTBEATS * heartbeat_seconds
    if kind is not TaskKind.TRAIN:
        return now + max(beats, EVALUATION_SECONDS)
    latest = round_.latest_end(leased_at=leased_at)
    if latest is None:
        latest = now + beats
    return min(now + beats, latest) if heartbeats else latest


def soft_seconds(measured_seconds: Sequence[float], *, least: int) -> float | None:
    """Return 1.5 times the 90 % quantile of measured times, at least 10 s; None if fewer than `least` are known."""
    if len(measured_seconds) < least:
        return None
    ordered = sorted(measured_seconds)
    return max(SHORTEST_SOFT_SECONDS, SLACK * ordered[math.ceil(QUANTILE * len(ordered)) - 1])


def soft_deadline(round_: Round, own_seconds: Sequence[float], *, now: float) -> float | None:
    """Return when the work of a lease that begins now should be done, at the latest with the round.

    The job's own time is given to everybody, and more to a client whose last tasks took longer. Without
    any measured time it is the round's deadline.

    Args:
        round_: a round; its `soft_seconds` were measured on the job's last rounds.
        own_seconds: what the client's last tasks of the job took.
        now: Unix seconds.
    """
    known = [seconds for seconds in (round_.soft_seconds, soft_seconds(own_seconds, least=LEAST_OF_CLIENT)) if seconds]
    ends = [now + max(known)] if known else []
    if (latest := round_.latest_end(leased_at=now)) is not None:
        ends.append(latest)
    return min(ends, default=None)


def stands_still(task: Task, *, now: float) -> bool:
    """Say whether a lease made no progress for four times as long as the whole work should take."""
    if task.soft_deadline is None:
        return False
    return now - task.progress_at > STANDSTILL * (task.soft_deadline - task.leased_at)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the work on a task has become useless: a stable code, and a sentence."""

    code: str
    reason: str


def ending_of(
    task: Task, round_: Round, *, live: Round | None, job_state: JobState, client_state: ClientState
) -> Ending:
    """Return why a lease that is no longer live is over, by what is known of its surroundings now.

    `live` is the job's round that is not over, if there is one.
    """
    if client_state is not ClientState.ACTIVE:
        return Ending("client_banned", f"this client is {client_state}; ask whoever runs the coordinator")
    match task.state:
        case TaskState.REPORTED:
            return Ending("reported", "the task has its update")
        case TaskState.RELEASED:
            return Ending("lease_released", "the lease was given back")
        case TaskState.EXPIRED | TaskState.OVERDUE if task.ended_at is not None and stands_still(
            task, now=task.ended_at
        ):
            return Ending("no_progress", f"no progress came for {task.ended_at - task.progress_at:.0f} s")
        case TaskState.EXPIRED | TaskState.OVERDUE:
            return Ending("lease_expired", "the lease ran out before a heartbeat or the update came")
    if job_state is JobState.STOPPED:
        return Ending("job_stopped", f"the job was stopped, and round {round_.round_id} with it")
    if round_.state is RoundState.ABANDONED:
        return Ending("round_abandoned", f"round {round_.round_id} was given up: {round_.reason}")
    if job_state is JobState.FINISHED:
        return Ending("job_finished", f"round {round_.round_id} has its updates, and the job has finished")
    if round_.is_buffer and live is not None and not live.takes(task.base_version):
        return Ending(
            "update_too_stale",
            f"the task began at v{task.base_version} and the model is v{live.base_version} now; "
            f"at most {live.max_staleness} version(s) behind are taken",
        )
    if not round_.is_buffer and round_.state in (RoundState.AGGREGATING, RoundState.CLOSED):
        return Ending("round_closed", f"round {round_.round_id} has its updates")
    return Ending("lease_cancelled", "the coordinator took the lease back; ask for a new task")
