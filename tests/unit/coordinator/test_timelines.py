"""A round as a time line: every moment of a lease is on it, in its order and at its place."""

from dataclasses import replace

from fed_compute.coordinator.timelines import Span, timeline_of
from fed_compute.ids import ClientId, JobId, RoundId, TaskId
from fed_compute.rounds.records import Entry, Round, RoundMode, RoundState, Task, TaskKind, TaskState

ROUND = Round(
    round_id=RoundId(7),
    job_id=JobId(1),
    number=1,
    base_version=1,
    state=RoundState.COLLECTING,
    mode=RoundMode.SYNC,
    target_updates=2,
    min_updates=1,
    slots=3,
    deadline_seconds=60.0,
    opened_at=90.0,
    started_at=100.0,
    deadline=160.0,
)
LEASE = Task(
    task_id=TaskId("t_1"),
    job_id=JobId(1),
    round_id=RoundId(7),
    client_id=ClientId("anna"),
    kind=TaskKind.TRAIN,
    state=TaskState.LEASED,
    base_version=1,
    leased_at=100.0,
    deadline=130.0,
    heartbeats=True,
)


def noted(kind: str, at: float, payload: str = "{}", task: str = "t_1") -> Entry:
    return Entry(1, at, kind, JobId(1), RoundId(7), ClientId("anna"), TaskId(task), payload)


def told(span: Span) -> list[tuple[str, float]]:
    return [(mark.kind, mark.seconds) for mark in span.marks]


def test_a_lease_begins_is_heard_of_and_ends_with_its_update() -> None:
    task = replace(LEASE, progress=0.5, progress_at=110.0, state=TaskState.REPORTED, ended_at=120.0)
    line = timeline_of(replace(ROUND, closed_at=140.0), [task], [], now=1_000.0)
    (span,) = line.spans
    assert told(span) == [("assigned", 0.0), ("heartbeat", 10.0), ("reported", 20.0)]
    assert (span.began, span.ended, line.seconds) == (0.0, 0.5, 40.0)
    assert [mark.place for mark in span.marks] == [0.0, 0.25, 0.5]
    assert (line.closed, line.deadline) == (1.0, None), "the deadline never came"


def test_a_lease_that_is_still_out_reaches_to_now() -> None:
    line = timeline_of(ROUND, [replace(LEASE, leased_at=110.0)], [], now=120.0)
    assert [(span.began, span.ended) for span in line.spans] == [(0.5, 1.0)]
    assert line.closed is None


def test_refusals_are_told_with_their_code_and_may_come_before_the_update() -> None:
    task = replace(LEASE, state=TaskState.REPORTED, ended_at=130.0)
    entries = [noted("update_refused", 110.0, '{"code":"update_not_finite"}'), noted("update_accepted", 130.0)]
    (span,) = timeline_of(ROUND, [task], entries, now=140.0).spans
    assert told(span) == [("assigned", 0.0), ("refused", 10.0), ("reported", 30.0)]
    assert span.marks[1].detail == "update_not_finite"


def test_an_update_that_came_late_makes_the_line_longer_than_its_round() -> None:
    task = replace(LEASE, state=TaskState.LATE, ended_at=140.0)
    line = timeline_of(replace(ROUND, closed_at=140.0), [task], [noted("update_late", 180.0)], now=999.0)
    assert told(line.spans[0]) == [("assigned", 0.0), ("taken back", 40.0), ("late", 80.0)]
    assert (line.seconds, line.closed, line.deadline) == (80.0, 0.5, 0.75)


def test_each_way_that_a_lease_ends_has_its_word() -> None:
    words = {TaskState.EXPIRED: "expired", TaskState.RELEASED: "given back", TaskState.CANCELLED: "taken back"}
    for state, word in words.items():
        (span,) = timeline_of(ROUND, [replace(LEASE, state=state, ended_at=105.0)], [], now=110.0).spans
        assert told(span)[-1] == (word, 5.0)


def test_what_is_noted_of_others_stands_with_others() -> None:
    other = replace(LEASE, task_id=TaskId("t_2"), client_id=ClientId("bob"))
    line = timeline_of(ROUND, [LEASE, other], [noted("update_late", 105.0, task="t_2")], now=110.0)
    assert [told(span)[-1][0] for span in line.spans] == ["assigned", "late"]


def test_the_line_has_a_few_round_numbers_whatever_its_length() -> None:
    for seconds in (0.5, 3.0, 47.0, 400.0, 9_000.0, 400_000.0, 5_000_000.0):
        ticks = timeline_of(ROUND, [], [], now=100.0 + seconds).ticks
        assert 1 <= len(ticks) <= 6, (seconds, ticks)
        assert all(0.0 <= place <= 1.0 for place, _ in ticks)


def test_a_clock_that_was_set_back_draws_nothing_beside_the_line() -> None:
    task = replace(LEASE, leased_at=100.0, state=TaskState.REPORTED, ended_at=95.0)
    (span,) = timeline_of(replace(ROUND, closed_at=99.0), [task], [], now=99.0).spans
    assert 0.0 <= span.ended <= 1.0
    assert all(0.0 <= mark.place <= 1.0 for mark in span.marks)
