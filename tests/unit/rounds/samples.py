"""Rounds to decide about."""

from dataclasses import replace
from typing import Any

from fed_compute.ids import JobId, RoundId
from fed_compute.rounds.machine import Progress
from fed_compute.rounds.records import Round, RoundMode, RoundState

NOW = 1_000.0
DEADLINE_SECONDS = 60.0
DEADLINE = NOW + DEADLINE_SECONDS


def a_round(state: RoundState = RoundState.COLLECTING, **changes: Any) -> Round:
    """Return a round that began to collect at `NOW`: 3 updates wanted, 2 needed."""
    round_ = Round(
        round_id=RoundId(1),
        job_id=JobId(1),
        number=1,
        base_version=1,
        state=state,
        mode=RoundMode.SYNC,
        target_updates=3,
        min_updates=2,
        slots=5,
        deadline_seconds=DEADLINE_SECONDS,
        opened_at=NOW - 5,
    )
    if state is not RoundState.OPEN:
        round_ = replace(round_, started_at=NOW, deadline=DEADLINE)
    return replace(round_, **changes)


def got(updates: int, *, leased: int = 0, awaited: int = 6) -> Progress:
    """Return how far a round has come. Without another word, some clients who are here have not reported."""
    return Progress(num_updates=updates, num_leased=leased, num_awaited=awaited)
