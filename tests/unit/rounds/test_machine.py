"""One round, one event, what now: as tables, and over random lives."""

from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fed_compute.rounds.machine import (
    CloseRequested,
    JobPaused,
    JobResumed,
    JobStopped,
    LeaseGranted,
    Looked,
    Progress,
    ResultUnusable,
    RoundEvent,
    UpdateArrived,
    VersionPublished,
    depends_on_progress,
    step,
)
from fed_compute.rounds.records import Round, RoundMode, RoundState
from tests.unit.rounds.samples import DEADLINE, DEADLINE_SECONDS, NOW, a_round, got

LEASE, UPDATE, LOOK, CLOSE = LeaseGranted(), UpdateArrived(), Looked(), CloseRequested()
PAUSE, RESUME, STOP = JobPaused(), JobResumed(), JobStopped("an operator stopped the job")
PUBLISHED, UNUSABLE = VersionPublished(2), ResultUnusable("too large")
TERMINAL = (RoundState.CLOSED, RoundState.ABANDONED)
FITTING = {
    (RoundState.OPEN, LEASE),
    (RoundState.OPEN, UPDATE),
    (RoundState.COLLECTING, LOOK),
    (RoundState.COLLECTING, CLOSE),
    (RoundState.AGGREGATING, PUBLISHED),
    (RoundState.AGGREGATING, UNUSABLE),
    (RoundState.OPEN, STOP),
    (RoundState.COLLECTING, STOP),
    (RoundState.AGGREGATING, STOP),
}
COLLECTS = (RoundState.OPEN, RoundState.COLLECTING)
EVENTS = (LEASE, UPDATE, LOOK, CLOSE, PAUSE, RESUME, STOP, PUBLISHED, UNUSABLE)
NOT_FITTING = [
    (state, event)
    for state, event in product(RoundState, EVENTS)
    if (state, event) not in FITTING and not (state in COLLECTS and event is PAUSE)
]


@pytest.mark.parametrize(("state", "event"), NOT_FITTING, ids=lambda value: str(value))
def test_an_event_that_does_not_fit_changes_nothing(state: RoundState, event: RoundEvent) -> None:
    """A lost race or a repeated message must never move a round."""
    round_ = a_round(state)
    assert step(round_, event, got(9), now=DEADLINE + 1) == round_


@pytest.mark.parametrize(("state", "event"), sorted(FITTING, key=str), ids=lambda value: str(value))
def test_an_event_that_fits_moves_the_round(state: RoundState, event: RoundEvent) -> None:
    assert step(a_round(state), event, got(9), now=NOW + 1).state is not state


@pytest.mark.parametrize(("state", "event"), list(product(RoundState, EVENTS)), ids=lambda value: str(value))
def test_progress_matters_only_where_the_machine_says_so(state: RoundState, event: RoundEvent) -> None:
    """Elsewhere it need not be counted."""
    for mode, now in product(RoundMode, (NOW, DEADLINE)):
        round_ = a_round(state, mode=mode)
        ends = {step(round_, event, Progress(*one), now=now) for one in product(range(5), range(2), range(2))}
        assert len(ends) == 1 or depends_on_progress(round_, event)
    assert depends_on_progress(a_round(state), event) == (state is RoundState.COLLECTING and event in (LOOK, CLOSE))


@pytest.mark.parametrize("event", [LOOK, CLOSE])
@pytest.mark.parametrize("mode", RoundMode)
def test_a_round_that_stays_as_it_is_would_stay_so_if_more_were_awaited(mode: RoundMode, event: RoundEvent) -> None:
    """So they need not be counted unless it moves without them."""
    for left_seconds, now, updates, leased in product((None, 5.0), (NOW, DEADLINE), range(5), range(2)):
        round_ = a_round(mode=mode, left_seconds=left_seconds)
        if step(round_, event, got(updates, leased=leased, awaited=0), now=now) == round_:
            assert step(round_, event, got(updates, leased=leased, awaited=3), now=now) == round_


@pytest.mark.parametrize("event", [LEASE, UPDATE])
def test_the_first_lease_or_the_first_update_of_an_earlier_one_starts_the_round_and_its_deadline(
    event: RoundEvent,
) -> None:
    started = step(a_round(RoundState.OPEN), event, got(0), now=NOW + 500)
    assert started.state is RoundState.COLLECTING
    assert (started.started_at, started.deadline) == (NOW + 500, NOW + 500 + DEADLINE_SECONDS)


def test_a_round_without_clients_waits_for_ever() -> None:
    waiting = a_round(RoundState.OPEN)
    assert step(waiting, LOOK, got(0), now=NOW + 1e9) == waiting


@pytest.mark.parametrize("leased", [0, 2])
def test_a_sync_round_closes_as_soon_as_its_target_is_met(leased: int) -> None:
    assert step(a_round(), LOOK, got(2, leased=1), now=NOW).state is RoundState.COLLECTING
    assert step(a_round(), LOOK, got(3, leased=leased), now=NOW).state is RoundState.AGGREGATING


@pytest.mark.parametrize(
    ("updates", "leased", "awaited", "closes"),
    [
        (2, 0, 0, True),  # everybody who is here has reported
        (2, 1, 0, False),  # somebody is still at work
        (2, 0, 1, False),  # somebody who is here may still take a lease
        (1, 0, 0, False),  # everybody has reported, but too few
    ],
)
def test_a_sync_round_closes_early_only_when_there_is_nobody_to_wait_for(
    updates: int, leased: int, awaited: int, closes: bool
) -> None:
    after = step(a_round(), LOOK, got(updates, leased=leased, awaited=awaited), now=NOW)
    assert (after.state is RoundState.AGGREGATING) == closes


def test_a_sync_round_closes_at_its_deadline_with_its_minimum() -> None:
    assert step(a_round(), LOOK, got(2, leased=3), now=DEADLINE - 0.001).state is RoundState.COLLECTING
    assert step(a_round(), LOOK, got(2, leased=3), now=DEADLINE).state is RoundState.AGGREGATING


def test_a_sync_round_with_too_few_updates_is_given_up_at_its_deadline_and_says_why() -> None:
    after = step(a_round(), LOOK, got(1), now=DEADLINE)
    assert (after.state, after.closed_at) == (RoundState.ABANDONED, DEADLINE)
    assert after.reason == "1 of at least 2 updates by the deadline"


def test_an_operator_closes_a_round_that_has_its_minimum() -> None:
    assert step(a_round(), CLOSE, got(2, leased=3), now=NOW).state is RoundState.AGGREGATING
    assert step(a_round(), CLOSE, got(1, leased=3), now=NOW) == a_round()


def test_an_async_round_closes_at_its_minimum_whoever_is_still_at_work() -> None:
    round_ = a_round(mode=RoundMode.ASYNC)
    assert step(round_, LOOK, got(1, awaited=0), now=NOW) == round_
    assert step(round_, LOOK, got(2, leased=3), now=NOW).state is RoundState.AGGREGATING


def test_an_async_round_closes_at_its_longest_duration_with_a_single_update() -> None:
    round_ = a_round(mode=RoundMode.ASYNC)
    assert step(round_, LOOK, got(1), now=DEADLINE - 0.001) == round_
    assert step(round_, LOOK, got(1), now=DEADLINE).state is RoundState.AGGREGATING


def test_an_async_round_without_any_update_is_given_up() -> None:
    after = step(a_round(mode=RoundMode.ASYNC), LOOK, got(0), now=DEADLINE)
    assert (after.state, after.reason) == (RoundState.ABANDONED, "0 of at least 1 updates by the deadline")


def test_a_buffer_closes_when_it_is_full_whoever_is_still_at_work() -> None:
    round_ = a_round(mode=RoundMode.FEDBUFF)
    assert step(round_, LOOK, got(2, leased=9), now=NOW) == round_
    assert step(round_, LOOK, got(3, leased=9), now=NOW).state is RoundState.AGGREGATING


def test_a_buffer_waits_for_its_deadline_also_when_everybody_who_is_here_has_reported() -> None:
    """Each client fills one place of it; the others may be away for the moment only."""
    round_ = a_round(mode=RoundMode.FEDBUFF)
    assert step(round_, LOOK, got(2, awaited=0), now=DEADLINE - 0.001) == round_
    assert step(round_, LOOK, got(2, awaited=0), now=DEADLINE).state is RoundState.AGGREGATING


def test_a_buffer_with_too_few_updates_is_given_up_at_its_deadline() -> None:
    after = step(a_round(mode=RoundMode.FEDBUFF), LOOK, got(1), now=DEADLINE)
    assert (after.state, after.reason) == (RoundState.ABANDONED, "1 of at least 2 updates by the deadline")


@pytest.mark.parametrize("state", COLLECTS)
def test_a_pause_takes_nothing_from_a_rounds_time(state: RoundState) -> None:
    paused = step(a_round(state), PAUSE, got(0), now=NOW + 20)
    assert (paused.state, paused.is_paused, paused.deadline) == (state, True, None)
    assert step(paused, LOOK, got(0), now=NOW + 1e9) == paused
    resumed = step(paused, RESUME, got(0), now=NOW + 5_000)
    assert resumed == a_round(state, **({} if state is RoundState.OPEN else {"deadline": NOW + 5_040}))


def test_a_round_that_is_paused_twice_has_no_less_time_and_one_resumed_twice_no_more() -> None:
    paused = step(a_round(), PAUSE, got(0), now=NOW + 20)
    assert step(paused, PAUSE, got(0), now=NOW + 30) == paused
    resumed = step(paused, RESUME, got(0), now=NOW + 5_000)
    assert step(resumed, RESUME, got(0), now=NOW + 5_010) == resumed


def test_a_paused_round_grants_no_lease() -> None:
    paused = step(a_round(RoundState.OPEN), PAUSE, got(0), now=NOW)
    assert step(paused, LEASE, got(0), now=NOW + 1) == paused


def test_a_buffer_that_gets_its_first_update_in_a_pause_starts_and_its_time_begins_with_the_resumption() -> None:
    paused = step(a_round(RoundState.OPEN, mode=RoundMode.FEDBUFF), PAUSE, got(0), now=NOW)
    started = step(paused, UPDATE, got(1), now=NOW + 7)
    assert (started.state, started.started_at, started.deadline) == (RoundState.COLLECTING, NOW + 7, None)
    resumed = step(started, RESUME, got(1), now=NOW + 500)
    assert resumed.deadline == NOW + 500 + DEADLINE_SECONDS


@pytest.mark.parametrize(
    ("mode", "closing", "waiting"),
    [(RoundMode.SYNC, 3, 2), (RoundMode.ASYNC, 2, 1), (RoundMode.FEDBUFF, 3, 2)],
)
def test_a_paused_round_closes_with_the_updates_it_waits_for_and_not_because_nobody_is_at_work(
    mode: RoundMode, closing: int, waiting: int
) -> None:
    """In a pause everybody runs out of work; that is no reason to close with less."""
    paused = step(a_round(mode=mode), PAUSE, got(0), now=NOW + 20)
    assert step(paused, LOOK, got(waiting, awaited=0), now=NOW + 1e9) == paused
    closed = step(paused, LOOK, got(closing, awaited=0), now=NOW + 1e9)
    assert (closed.state, closed.is_paused) == (RoundState.AGGREGATING, False)


def test_an_operator_closes_a_paused_round_that_has_its_minimum() -> None:
    paused = step(a_round(), PAUSE, got(0), now=NOW)
    assert step(paused, CLOSE, got(2), now=NOW + 9).state is RoundState.AGGREGATING
    assert step(paused, CLOSE, got(1), now=NOW + 9) == paused


def test_a_round_that_closes_in_a_pause_has_lasted_as_long_as_it_ran() -> None:
    paused = step(a_round(), PAUSE, got(0), now=NOW + 20)
    assert paused.lasted_seconds(now=NOW + 900) == 20
    closing = step(paused, LOOK, got(3), now=NOW + 1_000)
    closed = step(closing, PUBLISHED, got(3), now=NOW + 1_001)
    assert closed.lasted_seconds(now=NOW + 9e9) == 21


def test_a_round_without_pauses_lasts_from_its_first_lease_to_its_end() -> None:
    assert a_round(RoundState.OPEN).lasted_seconds(now=NOW + 10) is None
    assert a_round().lasted_seconds(now=NOW + 10) == 10
    assert a_round(RoundState.CLOSED, closed_at=NOW + 30).lasted_seconds(now=NOW + 1e9) == 30


@pytest.mark.parametrize("state", [*COLLECTS, RoundState.AGGREGATING])
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_job_that_is_stopped_takes_its_live_round_with_it(state: RoundState, is_paused: bool) -> None:
    round_ = step(a_round(state), PAUSE, got(0), now=NOW) if is_paused else a_round(state)
    after = step(round_, STOP, got(3), now=NOW + 9)
    assert (after.state, after.closed_at, after.is_paused) == (RoundState.ABANDONED, NOW + 9, False)
    assert after.reason == "an operator stopped the job"


def test_a_published_version_closes_the_round() -> None:
    after = step(a_round(RoundState.AGGREGATING), VersionPublished(7), got(3), now=NOW + 9)
    assert (after.state, after.result_version, after.closed_at) == (RoundState.CLOSED, 7, NOW + 9)


def test_a_result_that_cannot_be_used_ends_the_round_with_its_reason() -> None:
    after = step(a_round(RoundState.AGGREGATING), UNUSABLE, got(3), now=NOW + 9)
    assert (after.state, after.reason, after.closed_at) == (RoundState.ABANDONED, "too large", NOW + 9)
    assert after.result_version is None


@pytest.mark.parametrize(("state", "event"), sorted(FITTING, key=str), ids=lambda value: str(value))
def test_what_a_round_is_about_never_changes(state: RoundState, event: RoundEvent) -> None:
    before = a_round(state)
    after = step(before, event, got(3), now=NOW + 1)
    moved = {name: None for name in ("started_at", "deadline", "closed_at", "result_version", "reason")}
    same = {"state": RoundState.OPEN, **moved}
    assert replace(after, **same) == replace(before, **same)


class RoundLife(RuleBasedStateMachine):
    """Whatever clients, operators, workers and the clock do, a round ends once and keeps its promises."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.updates, self.leased, self.awaited = NOW, 0, 0, 3
        self.ran_seconds = 0.0
        self.history: list[Round] = []

    @initialize(mode=st.sampled_from(RoundMode), minimum=st.integers(1, 3), extra=st.integers(0, 2))
    def open(self, mode: RoundMode, minimum: int, extra: int) -> None:
        round_ = a_round(RoundState.OPEN, mode=mode, min_updates=minimum, target_updates=minimum + extra)
        self.history = [round_]

    @property
    def round(self) -> Round:
        return self.history[-1]

    def _step(self, event: RoundEvent) -> None:
        progress = Progress(self.updates, self.leased, self.awaited)
        self.history.append(step(self.round, event, progress, now=self.now))
        if self.round.state not in (RoundState.OPEN, RoundState.COLLECTING):
            self.leased = 0

    def _wait_until(self, now: float) -> None:
        if self.round.state is RoundState.COLLECTING and not self.round.is_paused:
            self.ran_seconds += now - self.now
        self.now = now

    @rule()
    def a_client_takes_a_lease(self) -> None:
        if self.round.state in (RoundState.OPEN, RoundState.COLLECTING):
            self._step(LEASE)
            self.leased += 1

    @rule(in_time=st.booleans())
    def a_lease_ends(self, in_time: bool) -> None:
        if self.leased:
            self.leased -= 1
            self.updates += in_time
            self._step(LOOK)

    @rule()
    def an_update_of_an_earlier_lease_arrives(self) -> None:
        if self.round.is_buffer and self.round.state in (RoundState.OPEN, RoundState.COLLECTING):
            self.updates += 1
            self._step(UPDATE)
            self._step(LOOK)

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self._wait_until(self.now + seconds)
        self._step(LOOK)

    @rule()
    def a_look_after_the_deadline_ends_the_collecting(self) -> None:
        if self.round.deadline is not None:
            self._wait_until(max(self.now, self.round.deadline))
            self._step(LOOK)
            assert self.round.state is not RoundState.COLLECTING

    @rule(awaited=st.integers(0, 6))
    def clients_come_and_go(self, awaited: int) -> None:
        self.awaited = awaited

    @rule(event=st.sampled_from([LEASE, UPDATE, CLOSE, PAUSE, RESUME, STOP, PUBLISHED, UNUSABLE]))
    def a_message_comes_at_any_time_and_perhaps_twice(self, event: RoundEvent) -> None:
        self._step(event)

    @invariant()
    def an_ended_round_stays_as_it_is(self) -> None:
        ended = [round_ for round_ in self.history if round_.state in TERMINAL]
        assert len(set(ended)) <= 1

    @invariant()
    def it_is_aggregated_at_most_once(self) -> None:
        moves = [(before.state, after.state) for before, after in pairwise(self.history) if before != after]
        assert sum(to is RoundState.AGGREGATING for _, to in moves) <= 1

    @invariant()
    def states_come_in_order(self) -> None:
        order = list(RoundState)
        places = [order.index(round_.state) for round_ in self.history]
        assert places == sorted(places)

    @invariant()
    def a_round_starts_once_and_has_all_its_time_however_often_it_is_paused(self) -> None:
        assert len({round_.started_at for round_ in self.history} - {None}) <= 1
        if self.round.state is RoundState.OPEN:
            assert (self.round.started_at, self.round.deadline) == (None, None)
        if self.round.state is RoundState.COLLECTING:
            left = self.round.left_seconds if self.round.deadline is None else self.round.deadline - self.now
            assert left is not None
            assert max(0.0, left) == pytest.approx(max(0.0, DEADLINE_SECONDS - self.ran_seconds))

    @invariant()
    def only_enough_updates_make_a_model(self) -> None:
        if self.round.state in (RoundState.AGGREGATING, RoundState.CLOSED):
            overdue = self.round.deadline is not None and self.now >= self.round.deadline
            enough = 1 if self.round.mode is RoundMode.ASYNC and overdue else self.round.min_updates
            assert self.updates >= enough

    @invariant()
    def an_end_has_a_time_and_either_a_version_or_a_reason(self) -> None:
        for round_ in self.history:
            assert (round_.closed_at is None) == (round_.state not in TERMINAL)
            assert (round_.result_version is None) == (round_.state is not RoundState.CLOSED)
            assert (round_.reason is None) == (round_.state is not RoundState.ABANDONED)


TestRoundLife = RoundLife.TestCase
