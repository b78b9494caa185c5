"""Which updates are audited, who audits them, and what the auditors' numbers mean.

The schedule is BOINC's adaptive replication: everybody's first results are looked at, later ones with a
probability that falls as 1/n, where n is how many audits in a row were passed; only an audit moves n.

The check is a loss score (Gauntlet's): by what share of itself the loss on an auditor's own held-out data
falls when the update alone is added to its base. Auditors have different data, so one of them proves
nothing and the median of several decides; and honest clients with unusual data score below zero too, so
the limit lies far below what passed lately in the same job, and only a third bad score in a row is a
failure. What that finds, and whom it wrongs, is measured by `benchmarks/audits.py`: it finds updates that
do great harm, and cannot tell a flipped update of ordinary length from unusual data.
"""

import hashlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

ALWAYS_BELOW = 10
"""Fewer passed audits in a row than this: each result is due for an audit (BOINC)."""
LEAST_PROBABILITY = 0.01
LARGEST_SHARE = 0.25
"""At most this share of a round's updates is audited, and at least one: audits cost the auditors' time."""

LOWEST_SCORE = -1000.0
CALIBRATED_FROM = 10
"""So many passed scores of a job make its limit."""
UNCALIBRATED_LIMIT = -1.0
"""Before that, only an update that doubles the loss is bad."""
SPREADS = 15.0
"""How many median deviations below the median score a score may lie."""
LEAST_HARM = 1e-3
"""An update that raises the loss by no more than this share of it is never bad, however alike the others are."""
SCORES_KEPT = 20
"""How many passed scores the limit follows; scores change while a model learns."""
DOUBTS_BEFORE_FAILURE = 2
"""So many bad scores in a row prove nothing; one more does."""

LOTTERY_FACTOR = 2.0
LOTTERY_DOUBLES_SECONDS = 30.0


class Verdict(StrEnum):
    """What an audit came to."""

    PASSED = "passed"
    DOUBTFUL = "doubtful"
    FAILED = "failed"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An update that may be audited, and the record of its client."""

    update_id: int
    passed_in_a_row: int
    suspicious: bool


def audit_probability(passed_in_a_row: int, *, suspicious: bool = False, least: float = LEAST_PROBABILITY) -> float:
    """Return how probably a client's next result is audited."""
    if suspicious or passed_in_a_row < ALWAYS_BELOW:
        return 1.0
    return max(least, 1.0 / passed_in_a_row)


def choose_audited(candidates: Sequence[Candidate], rng: np.random.Generator) -> list[int]:
    """Draw the updates of one round that are audited, by id: suspicious clients' first, then in random order."""
    due = [
        candidate
        for candidate in candidates
        if rng.random() < audit_probability(candidate.passed_in_a_row, suspicious=candidate.suspicious)
    ]
    order = [due[place] for place in rng.permutation(len(due))]
    order.sort(key=lambda candidate: not candidate.suspicious)
    return [candidate.update_id for candidate in order[: max(1, int(LARGEST_SHARE * len(candidates)))]]


def is_drawn(salt: str, client_id: str, *, auditors: int, active_clients: int, waited_seconds: float) -> bool:
    """Say whether a client may take part in an audit now.

    A lottery that each client enters once, by a hash with the audit's secret salt, so that asking more
    often or faster wins nothing. It begins with about twice as many winners as needed, and lets twice as
    many in every `LOTTERY_DOUBLES_SECONDS`, until everybody may.
    """
    share = LOTTERY_FACTOR * auditors / max(1, active_clients)
    share *= math.exp2(min(60.0, max(0.0, waited_seconds) / LOTTERY_DOUBLES_SECONDS))
    digest = hashlib.sha256(f"{salt}:{client_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2.0**64


def loss_score(base_loss: float, loss: float | None) -> float:
    """Return by what share of itself the loss fell: 0.1 is a tenth, −1 says that it doubled.

    `loss` is None if it was not finite. Nothing is below `LOWEST_SCORE`.
    """
    if loss is None:
        return LOWEST_SCORE
    return max(LOWEST_SCORE, (base_loss - loss) / max(abs(base_loss), 1e-12))


def lower_limit(passed_scores: Sequence[float]) -> float:
    """Return the score below which an update is bad, from the scores that passed lately in the same job.

    It is the median minus `SPREADS` times the median absolute deviation, and never above `-LEAST_HARM`: in a
    model that has learnt all there is, honest updates do next to nothing, and then some of them next to no harm.
    """
    if len(passed_scores) < CALIBRATED_FROM:
        return UNCALIBRATED_LIMIT
    middle = statistics.median(passed_scores)
    spread = statistics.median(abs(score - middle) for score in passed_scores)
    return min(-LEAST_HARM, middle - SPREADS * spread)


def verdict_on(scores: Sequence[float], *, passed_scores: Sequence[float], doubts_before: int) -> Verdict:
    """Judge an update by its auditors' scores.

    Args:
        scores: one for each auditor who answered.
        passed_scores: the last `SCORES_KEPT` that passed in the same job, in any order.
        doubts_before: how many audits of the same client in a row, up to this one, found a bad score.
    """
    if not scores:
        return Verdict.UNDECIDED
    if statistics.median(scores) >= lower_limit(passed_scores):
        return Verdict.PASSED
    return Verdict.FAILED if doubts_before >= DOUBTS_BEFORE_FAILURE else Verdict.DOUBTFUL


def quorum(auditors: int) -> int:
    """Return how many auditors must have answered when the time is over: more than half of those wanted."""
    return auditors // 2 + 1
