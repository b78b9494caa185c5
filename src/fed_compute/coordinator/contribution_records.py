"""What was measured of the contributions to one round, as it is kept."""

from dataclasses import astuple, dataclass
from typing import Any

from fed_compute.ids import ClientId, RoundId, UpdateId
from fed_compute.storage.sql.store import Records


@dataclass(frozen=True, slots=True)
class Contribution:
    """One client's part: cosines from −1 to 1 to the sum of all and of all others, and its share of the importance.

    `to_others` is None where the round had no other update.
    """

    client_id: ClientId
    update_id: UpdateId
    cosine: float
    to_others: float | None
    share: float


@dataclass(frozen=True, slots=True)
class RoundContribution:
    """All parts, in the order of the updates. `length` is that of the sum of the updates, each of length 1."""

    length: float
    parts: tuple[Contribution, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"length": self.length, "parts": [astuple(part) for part in self.parts]}


def contribution_of(records: Records, round_id: RoundId) -> RoundContribution | None:
    """Return what was measured of a round, None if nothing was."""
    kept = records.round_contributions.get(round_id)
    if kept is None:
        return None
    return RoundContribution(kept["length"], tuple(Contribution(*part) for part in kept["parts"]))
