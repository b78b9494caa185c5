"""What each update of a round counts. Sample counts are claims of strangers, and a new name costs nothing."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fed_compute.errors import SampleCountInvalid

Weighting = Literal["samples", "equal", "capped"]

MAX_NUM_SAMPLES = 10_000_000
"""Below 2**24, so that a count is a weight of 24 bits as it is."""
ESTABLISHED_AFTER = 10
"""Counted updates after which a client is no newcomer to a job."""
WEIGHT_BITS = 24


@dataclass(frozen=True, slots=True)
class Claim:
    """What the sender of an update says of it, and how many of its updates the job has counted before this round.

    `discount`, above 0 and at most 1, is what is left of its weight, because it is stale.
    """

    num_samples: int
    counted_before: int
    discount: float = 1.0


def round_weights(claims: Sequence[Claim], *, weighting: Weighting, newcomer_share: float) -> list[float]:
    """Return the weight of each update of a round: above 0, with at most 24 significant bits.

    `samples` takes the claims as they are, `capped` at twice the round's median claim (the lower one of two), `equal`
    not at all. Then each is discounted. Then newcomers together are scaled down to `newcomer_share` of the whole
    weight, unless they hold less anyhow or the round has nobody else. The order of the claims does not matter.

    Raises:
        SampleCountInvalid: if a claim is not a whole number from 1 to 10 000 000.
        ValueError: if a discount is not above 0 and at most 1.
    """
    claimed = _claimed([claim.num_samples for claim in claims], weighting)
    weights = [_discounted(weight, claim.discount) for weight, claim in zip(claimed, claims, strict=True)]
    is_new = [claim.counted_before < ESTABLISHED_AFTER for claim in claims]
    new = math.fsum(weight for weight, newcomer in zip(weights, is_new, strict=True) if newcomer)
    established = math.fsum(weight for weight, newcomer in zip(weights, is_new, strict=True) if not newcomer)
    if established == 0.0 or new <= newcomer_share * (new + established):
        return weights
    factor = newcomer_share / (1.0 - newcomer_share) * established / new
    return [_cut(weight * factor) if newcomer else weight for weight, newcomer in zip(weights, is_new, strict=True)]


def claimed_weight(num_samples: int, *, weighting: Weighting, discount: float = 1.0) -> float:
    """Return what an update counts as long as nothing is known of the others of its round.

    Raises:
        SampleCountInvalid: if the claim is not a whole number from 1 to 10 000 000.
        ValueError: if the discount is not above 0 and at most 1.
    """
    return _discounted(_claimed([num_samples], weighting)[0], discount)


def mean_discount(weights: Sequence[float], discounts: Sequence[float]) -> float:
    """Return the mean of the discounts that are in some weights, by the weights as they would be without them."""
    return math.fsum(weights) / math.fsum(w / d for w, d in zip(weights, discounts, strict=True))


def _claimed(counts: Sequence[int], weighting: Weighting) -> list[float]:
    for count in counts:
        if not 1 <= count <= MAX_NUM_SAMPLES:
            raise SampleCountInvalid(count, limit=MAX_NUM_SAMPLES)
    match weighting:
        case "equal":
            return [1.0] * len(counts)
        case "capped":
            limit = 2 * statistics.median_low(counts) if counts else 0
            return [float(min(count, limit)) for count in counts]
        case "samples":
            return [float(count) for count in counts]


def _discounted(weight: float, discount: float) -> float:
    if not 0.0 < discount <= 1.0:
        raise ValueError(f"a discount is above 0 and at most 1, got {discount!r}")
    return weight if discount == 1.0 else _cut(weight * discount)


def _cut(weight: float) -> float:
    """Round a weight down to `WEIGHT_BITS` significant bits, so that weight times float32 is exact in float64."""
    mantissa, exponent = math.frexp(weight)
    return math.ldexp(math.floor(math.ldexp(mantissa, WEIGHT_BITS)), exponent - WEIGHT_BITS)
