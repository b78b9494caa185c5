"""Buffered and synchronous rounds with equally many machines at work: who reaches the target first, in virtual time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from fed_compute.protocol.job import EvaluationSection, JobSpec, RoundsSection, TrainingSection
from fed_compute.simulator.fleet.trial import Trial

ENDLESS = 1_000_000
DEADLINE_SECONDS = 900.0
"""Long enough for the slowest machine of `Setting`, twice over: no round loses anybody to its deadline."""
OVER_SELECTION = 1.3
"""What Bonawitz et al. 2019 and Nguyen et al. 2022 give to synchronous rounds."""
ASYNC, SYNC, SYNC_ALL = "async", "sync", "sync_all"


def contenders(*, at_work: int, buffer_size: int) -> dict[str, RoundsSection]:
    """Return the rounds that are compared; under each of them `at_work` leases may be out at once.

    `async` makes a version of every `buffer_size` updates. `sync` over-selects by 1.3, closes with the fastest and
    cancels the rest. `sync_all` waits for as many updates as it hands out leases.
    """
    return {
        ASYNC: RoundsSection(
            total=ENDLESS,
            mode="fedbuff",
            target_updates=buffer_size,
            concurrency=at_work,
            deadline_seconds=DEADLINE_SECONDS,
        ),
        SYNC: RoundsSection(
            total=ENDLESS,
            target_updates=math.floor(at_work / OVER_SELECTION),
            over_selection=OVER_SELECTION,
            deadline_seconds=DEADLINE_SECONDS,
        ),
        SYNC_ALL: RoundsSection(
            total=ENDLESS, target_updates=at_work, over_selection=1.0, deadline_seconds=DEADLINE_SECONDS
        ),
    }


def job_with(rounds: RoundsSection) -> JobSpec:
    """Return the job that all of them train: handwritten digits, all the same but for the rounds."""
    return JobSpec(
        rounds=rounds,
        training=TrainingSection(lr=0.1, batch_size=8, local_epochs=5),
        evaluation=EvaluationSection(every_rounds=0),
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the contest came out: the trials of each contender, one for each seed, in the same order."""

    trials: Mapping[str, Sequence[Trial]]
    longest_seconds: float

    def seconds(self, name: str) -> list[float]:
        """Return when each seed reached the target; one that did not counts with the time that it was given."""
        return [self.longest_seconds if one.reached_at is None else one.reached_at for one in self.trials[name]]

    def mean_seconds(self, name: str) -> float:
        """Return the mean of these times."""
        return mean(self.seconds(name))

    def times_faster(self, name: str) -> float:
        """Return how many times as long as async another contender took, in the mean."""
        return self.mean_seconds(name) / self.mean_seconds(ASYNC)

    @property
    def is_async_everywhere_three_times_faster(self) -> bool:
        """Say whether async needed at most a third of the time of every other contender, with every seed."""
        own = self.seconds(ASYNC)
        return all(one.reached_at is not None for one in self.trials[ASYNC]) and all(
            3 * fast <= slow
            for name in self.trials
            if name != ASYNC
            for fast, slow in zip(own, self.seconds(name), strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            name: {
                "mean_seconds_to_target": round(self.mean_seconds(name), 1),
                "times_as_long_as_async": round(self.times_faster(name), 2),
                "trials": [one.to_json() for one in found],
            }
            for name, found in self.trials.items()
        }
