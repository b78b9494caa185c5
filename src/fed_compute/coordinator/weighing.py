"""What each update counts in a version, and how far the version's step goes: both follow from the records alone."""

from collections.abc import Mapping, Sequence

from fed_compute.coordinator.recipes import spec_of
from fed_compute.ids import ClientId
from fed_compute.learning.aggregation import Claim, claimed_weight, is_too_much, mean_discount, round_weights
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER
from fed_compute.rounds.records import Job, Update
from fed_compute.rounds.staleness import staleness_weight


def first_weight(job: Job, update: Update, *, base_version: int) -> float:
    """Return what an update counts as long as nothing is known of the others of its round.

    Raises:
        SampleCountInvalid: if a recorded claim is impossible: somebody changed it.
        ValueError: if it started from a version after `base_version`.
    """
    weighting, discount = spec_of(job).aggregation.weights_by, _discount(update, base_version)
    return claimed_weight(update.num_samples, weighting=weighting, discount=discount)


def weights_of(
    job: Job, updates: Sequence[Update], counted_before: Mapping[ClientId, int], *, base_version: int
) -> list[float]:
    """Return what each update counts in the version after `base_version`.

    `counted_before` is how many of its client's updates the job has counted before.

    Raises:
        SampleCountInvalid: if a recorded claim is impossible: somebody changed it.
        ValueError: if one started from a version after `base_version`.
    """
    settings = spec_of(job).aggregation
    claims = [
        Claim(update.num_samples, counted_before.get(update.client_id, 0), _discount(update, base_version))
        for update in updates
    ]
    return round_weights(claims, weighting=settings.weights_by, newcomer_share=settings.newcomer_share)


def step_scale(job: Job, updates: Sequence[Update], weights: Sequence[float], *, base_version: int) -> float:
    """Return by what the combined update is multiplied, given the weights that the updates have."""
    if not spec_of(job).aggregation.damp_stale:
        return 1.0
    return mean_discount(weights, [_discount(update, base_version) for update in updates])


def _discount(update: Update, base_version: int) -> float:
    return staleness_weight(base_version - update.base_version)


class Outlook:
    """Whose updates a collecting round has, and so whether those will count in the end what they count now."""

    def __init__(self, job: Job, *, base_version: int) -> None:
        self._job = job
        self._base_version = base_version
        self._new = 0.0
        self._established = 0.0
        self.newcomers: set[ClientId] = set()

    def add(self, updates: Sequence[Update], counted_before: Mapping[ClientId, int]) -> None:
        """Take note of more updates of the round, and of how many the job has counted of their clients before it.

        Raises:
            As `first_weight`.
        """
        for update in updates:
            weight = first_weight(self._job, update, base_version=self._base_version)
            if counted_before.get(update.client_id, 0) < ESTABLISHED_AFTER:
                self._new += weight
                self.newcomers.add(update.client_id)
            else:
                self._established += weight

    def keeps_first_weights(self) -> bool:
        """Say whether first weights are likely to be the last ones: a guess that costs time if it is wrong.

        In a job that has established clients: a round of nothing but newcomers is thought to wait for one of them.
        """
        share = spec_of(self._job).aggregation.newcomer_share
        return not is_too_much(self._new, beside=self._established, newcomer_share=share)
