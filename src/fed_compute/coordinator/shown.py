"""What pages show of records, put together and shortened for people."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fed_compute.coordinator.contribution_records import contribution_of
from fed_compute.coordinator.folding import read_manifest
from fed_compute.coordinator.queries import RoundView
from fed_compute.rounds.records import Entry, Update
from fed_compute.storage.sql.store import Records, Store

NOT_FOR_STRANGERS = frozenset(
    {
        "operator_key_issued",
        "key_issued",
        "key_rotated",
        "key_revoked",
        "invite_created",
        "invite_revoked",
        "client_approved",
        "client_banned",
        "client_unbanned",
    }
)
"""Kinds of journal entries that are about keys and about what operators do to clients."""

_MOMENTS = ("deadline",)


UNTOLD_FIELDS = frozenset({"traceparent"})
"""What a journal line holds for the product's own use."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One update in a round. `share` is its part of all weights, `influence` how much of it is in the result.

    `cosine` tells how far it points where the sum of all points, `staleness` how many versions it was behind.
    What is not known, or not yet, is None.
    """

    update: Update
    staleness: int
    share: float | None
    influence: float | None
    cosine: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the journal."""

    entry: Entry
    job: str | None
    told: str

    @property
    def code(self) -> str:
        """The code of the refusal that the line tells of, empty if it tells of none."""
        return str(json.loads(self.entry.payload).get("code", ""))


def counted_in(store: Store, view: RoundView) -> Sequence[Counted]:
    """Return a round's updates in the order in which they came, with what the rule and the measurement say of each."""
    weights = {} if view.version is None else {row[0]: row[2] for row in read_manifest(view.version.manifest)}
    total = sum(weights.values()) or 1.0
    with store.snapshot() as records:
        measured = contribution_of(records, view.round.round_id)
        influence, cosines = _findings(records, view)
    if measured is not None:
        cosines |= {part.update_id: part.cosine for part in measured.parts}
    return [
        Counted(
            update=update,
            staleness=view.round.base_version - update.base_version,
            share=weights[update.update_id] / total if update.update_id in weights else None,
            influence=influence.get(update.update_id),
            cosine=cosines.get(update.update_id),
        )
        for update in view.updates
    ]


def _findings(records: Records, view: RoundView) -> tuple[dict[int, float], dict[int, float]]:
    """Return what the rule said of each update when it made the version: influence and cosine, by update."""
    entries = records.journal.of_round(view.round.round_id, kinds=["round_aggregated"])
    if not entries:
        return {}, {}
    told: dict[str, Any] = json.loads(entries[-1].payload)
    columns = (told.get("influence"), told.get("cosines"))
    influence, cosines = ({} if one is None else dict(zip(told["updates"], one, strict=True)) for one in columns)
    return influence, cosines


def lines_of(store: Store, entries: Sequence[Entry]) -> Sequence[Line]:
    """Return journal entries for a page."""
    with store.snapshot() as records:
        names = {job.job_id: job.name for job in records.jobs.all()}
    return [Line(entry, None if entry.job_id is None else names.get(entry.job_id), _told(entry)) for entry in entries]


def _told(entry: Entry) -> str:
    told = {
        name: value
        for name, value in json.loads(entry.payload).items()
        if value is not None and name not in UNTOLD_FIELDS
    }
    return ", ".join(f"{name} {_moment(value) if name in _MOMENTS else _short(value)}" for name, value in told.items())


def _moment(value: float) -> str:
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
