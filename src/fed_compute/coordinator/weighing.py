"""What each update counts in a version, and how far the version's step goes: both follow from the records alone."""

from collections.abc import Mapping, Sequence

from fed_compute.coordinator.recipes import spec_of
from fed_compute.ids import ClientId
from fed_compute.learning.aggregation import Claim, claimed_weight, mean_discount, round_weights
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


def newcomers(updates: Sequence[Update], counted_before: Mapping[ClientId, int]) -> set[ClientId]:
    """Return the clients of updates of whom the job had not counted enough to take them for established."""
    return {one.client_id for one in updates if counted_before.get(one.client_id, 0) < ESTABLISHED_AFTER}


def in_folding_order(job: Job, updates: Sequence[Update], counted_before: Mapping[ClientId, int]) -> list[Update]:
    """Return the updates of a round, which are in sequence, in the order in which they are folded.

    Under plain averaging those of newcomers come last: what they count is known only when all are there.
    """
    if not spec_of(job).aggregation.is_plain_average:
        return list(updates)
    last = newcomers(updates, counted_before)
    return sorted(updates, key=lambda update: update.client_id in last)


def step_scale(job: Job, updates: Sequence[Update], weights: Sequence[float], *, base_version: int) -> float:
    """Return by what the combined update is multiplied, given the weights that the updates have."""
    if not spec_of(job).aggregation.damp_stale:
        return 1.0
    return mean_discount(weights, [_discount(update, base_version) for update in updates])


def _discount(update: Update, base_version: int) -> float:
    return staleness_weight(base_version - update.base_version)
