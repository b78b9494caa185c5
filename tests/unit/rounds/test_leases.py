"""Until when work is expected, when it stands still, and why it is over."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.ids import ClientId, JobId, RoundId, TaskId
from fed_compute.rounds.leases import (
    SHORTEST_SOFT_SECONDS,
    ending_of,
    lease_deadline,
    soft_deadline,
    soft_seconds,
    stands_still,
)
from fed_compute.rounds.records import ClientState, JobState, RoundMode, RoundState, Task, TaskKind, TaskState
from tests.unit.rounds.samples import DEADLINE, NOW, a_round

TIMES = st.lists(st.floats(0, 1e5), max_size=50)


def a_task(**fields: object) -> Task:
    task = Task(
        task_id=TaskId("t_1"),
        job_id=JobId(1),
        round_id=RoundId(1),
        client_id=ClientId("anna"),
        kind=TaskKind.TRAIN,
        state=TaskState.LEASED,
        base_version=1,
        leased_at=NOW,
        deadline=NOW + 30,
        heartbeats=True,
        progress_at=NOW,
        soft_deadline=NOW + 20,
    )
    return replace(task, **fields)


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([], None),
        ([20.0] * 4, None),  # four say nothing about a job
        ([20.0] * 5, 30.0),
        ([float(n) for n in range(1, 101)], 135.0),  # 1.5 · the 90th of a hundred
        ([20.0] * 9 + [4000.0], 30.0),  # one straggler in ten moves nothing
        ([0.1] * 20, SHORTEST_SOFT_SECONDS),
    ],
)
def test_work_is_expected_after_half_as_long_again_as_nine_in_ten_take(
    times: list[float], seconds: float | None
) -> None:
    assert soft_seconds(times, least=5) == seconds


@pytest.mark.parametrize(
    ("of_job", "own", "deadline", "expected"),
    [
        (None, [], NOW + 300, NOW + 300),  # nothing is known: as long as the round
        (30.0, [], NOW + 300, NOW + 30),
        (30.0, [15.0] * 3, NOW + 300, NOW + 30),  # a fast client gets no less than the others
        (30.0, [80.0] * 3, NOW + 300, NOW + 120),  # a slow one the time that it needs
        (30.0, [80.0] * 2, NOW + 300, NOW + 30),
        (None, [80.0] * 3, NOW + 300, NOW + 120),
        (30.0, [80.0] * 3, NOW + 50, NOW + 50),  # never beyond the round
        (None, [], None, None),
    ],
)
def test_the_soft_deadline_follows_the_job_and_the_client(
    of_job: float | None, own: list[float], deadline: float | None, expected: float | None
) -> None:
    round_ = replace(a_round(), soft_seconds=of_job, deadline=deadline)
    assert soft_deadline(round_, own, now=NOW) == expected


def test_a_lease_that_outlives_its_round_is_not_hurried_by_the_rounds_end() -> None:
    buffer = replace(a_round(), mode=RoundMode.FEDBUFF, deadline=NOW + 1)
    assert soft_deadline(buffer, [], now=NOW) == NOW + buffer.deadline_seconds
    assert soft_deadline(replace(buffer, soft_seconds=30.0), [], now=NOW) == NOW + 30


@given(times=TIMES, own=TIMES)
def test_a_soft_deadline_lies_between_now_and_the_end_of_the_round(times: list[float], own: list[float]) -> None:
    round_ = replace(a_round(), soft_seconds=soft_seconds(times, least=5))
    soft = soft_deadline(round_, own, now=NOW)
    assert soft is not None
    assert NOW < soft <= DEADLINE


def test_a_lease_stands_still_after_four_times_the_expected_time_without_progress() -> None:
    assert not stands_still(a_task(), now=NOW + 80)
    assert stands_still(a_task(), now=NOW + 80.1)
    assert not stands_still(a_task(progress_at=NOW + 50), now=NOW + 130)
    assert not stands_still(a_task(soft_deadline=None), now=NOW + 1e9)


ENDINGS = [
    (TaskState.EXPIRED, RoundState.COLLECTING, {}, "lease_expired"),
    (TaskState.OVERDUE, RoundState.CLOSED, {}, "lease_expired"),
    (TaskState.EXPIRED, RoundState.COLLECTING, {"ended_at": NOW + 81}, "no_progress"),
    (TaskState.RELEASED, RoundState.COLLECTING, {}, "lease_released"),
    (TaskState.REPORTED, RoundState.COLLECTING, {}, "reported"),
    (TaskState.CANCELLED, RoundState.AGGREGATING, {}, "round_closed"),
    (TaskState.LATE, RoundState.CLOSED, {}, "round_closed"),
    (TaskState.CANCELLED, RoundState.ABANDONED, {}, "round_abandoned"),
    (TaskState.CANCELLED, RoundState.COLLECTING, {}, "lease_cancelled"),
]


@pytest.mark.parametrize(("state", "round_state", "fields", "code"), ENDINGS)
def test_a_lease_that_is_over_says_why(
    state: TaskState, round_state: RoundState, fields: dict[str, float], code: str
) -> None:
    task = a_task(state=state, **{"ended_at": NOW + 31, **fields})
    ending = ending_of(
        task, a_round(round_state), live=None, job_state=JobState.RUNNING, client_state=ClientState.ACTIVE
    )
    assert ending.code == code
    assert ending.reason


def test_a_finished_job_and_a_ban_are_told_before_the_round() -> None:
    task, closed = a_task(state=TaskState.CANCELLED, ended_at=NOW + 5), a_round(RoundState.CLOSED)
    finished = ending_of(task, closed, live=None, job_state=JobState.FINISHED, client_state=ClientState.ACTIVE)
    banned = ending_of(task, closed, live=None, job_state=JobState.FINISHED, client_state=ClientState.BANNED)
    assert (finished.code, banned.code) == ("job_finished", "client_banned")


@pytest.mark.parametrize(
    ("version", "code"), [(3, "lease_cancelled"), (4, "update_too_stale")], ids=["two behind", "three behind"]
)
def test_a_buffered_lease_that_outlived_its_round_says_how_stale_it_became(version: int, code: str) -> None:
    """Its round is closed all the while; that is not why it ends."""
    began = replace(a_round(RoundState.CLOSED), mode=RoundMode.FEDBUFF, base_version=1, max_staleness=2)
    live = replace(began, round_id=RoundId(9), base_version=version, state=RoundState.COLLECTING)
    task = a_task(state=TaskState.CANCELLED, ended_at=NOW + 5, base_version=1)
    ending = ending_of(task, began, live=live, job_state=JobState.RUNNING, client_state=ClientState.ACTIVE)
    assert ending.code == code
    assert ("v1" in ending.reason) is (code == "update_too_stale")


def test_a_stopped_job_is_told_before_the_round_that_it_took_with_it() -> None:
    task = a_task(state=TaskState.CANCELLED, ended_at=NOW + 5)
    stopped = ending_of(
        task, a_round(RoundState.ABANDONED), live=None, job_state=JobState.STOPPED, client_state=ClientState.ACTIVE
    )
    assert stopped.code == "job_stopped"


@pytest.mark.parametrize(
    ("kind", "heartbeats", "deadline", "expected"),
    [
        (TaskKind.TRAIN, True, DEADLINE, NOW + 30),
        (TaskKind.TRAIN, True, NOW + 7, NOW + 7),  # never beyond the round
        (TaskKind.TRAIN, False, DEADLINE, DEADLINE),
        (TaskKind.TRAIN, True, None, NOW + 30),  # no deadline runs
        (TaskKind.TRAIN, False, None, NOW + 30),
        (TaskKind.EVALUATE, True, NOW + 7, NOW + 60),
        (TaskKind.AUDIT, False, NOW + 7, NOW + 60),
    ],
)
def test_a_lease_lasts_three_heartbeats_and_never_longer_than_its_round(
    kind: TaskKind, heartbeats: bool, deadline: float | None, expected: float
) -> None:
    end = lease_deadline(
        kind, a_round(deadline=deadline), heartbeats=heartbeats, heartbeat_seconds=10.0, leased_at=NOW, now=NOW
    )
    assert end == expected


@pytest.mark.parametrize(("mode", "expected"), [(RoundMode.SYNC, NOW + 60), (RoundMode.FEDBUFF, NOW + 50)])
def test_in_a_pause_a_lease_lasts_as_long_as_heartbeats_come_unless_it_has_a_time_of_its_own(
    mode: RoundMode, expected: float
) -> None:
    """A machine works on in a pause, so the time of a lease that outlives rounds runs on with it."""
    paused = a_round(mode=mode, deadline=None, left_seconds=1.0)
    leased_at = NOW + 50 - paused.deadline_seconds
    end = lease_deadline(TaskKind.TRAIN, paused, heartbeats=True, heartbeat_seconds=20.0, leased_at=leased_at, now=NOW)
    assert end == expected
