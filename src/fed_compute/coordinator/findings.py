"""What a rule found out about the updates of a round, as its journal line tells it."""

from collections.abc import Sequence
from typing import Any

from fed_compute.coordinator.folding import rule_of
from fed_compute.coordinator.recipes import spec_of
from fed_compute.learning.aggregation import Outcome
from fed_compute.learning.vectors import Vector64
from fed_compute.rounds.records import Job, Update

DIGITS = 4


def findings(
    job: Job, updates: Sequence[Update], weights: Sequence[float], outcome: Outcome, *, base_version: int
) -> dict[str, Any]:
    """Return the payload of `round_aggregated`: one list entry an update, in folding order, rounded to 4 digits.

    `weights` are shares of the whole weight. `staleness` is how many versions before `base_version` each update
    started. `influence` is how much of each update is in the result, 0 where it was left out; null where each
    parameter has a choice of its own. `cosines` tell where each update points beside the result; null under plain
    averaging, which looks at no update twice. `f` is how many liars were borne, below `f_wanted` where the round was
    too small for that; both are null where the rule does not count liars.
    """
    settings, total = spec_of(job).aggregation, sum(weights)
    wanted = rule_of(settings).wanted_liars(len(updates)) if settings.uses_f else None
    return {
        "rule": settings.rule,
        "pre": list(settings.pre),
        "f": None if wanted is None else outcome.num_liars,
        "f_wanted": wanted,
        "weighting": settings.weights_by,
        "updates": [update.update_id for update in updates],
        "clients": [update.client_id for update in updates],
        "staleness": [base_version - update.base_version for update in updates],
        "weights": [_rounded(weight / total) for weight in weights],
        "norms": [_rounded(update.l2_norm) for update in updates],
        "influence": _list(outcome.influence),
        "cosines": _list(outcome.cosines),
    }


def _list(values: Vector64 | None) -> list[float] | None:
    return None if values is None else [_rounded(float(value)) for value in values]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
