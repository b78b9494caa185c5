"""What pages show of records, put together and shortened for people."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fed_compute.coordinator.contribution_records import contribution_of
from fed_compute.coordinator.folding import read_manifest
from fed_compute.coordinator.queries import RoundView
from fed_compute.rounds.records import Entry, Task, Update
from fed_compute.storage.sql.store import Store

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


UNTOLD_FIELDS = frozenset({"traceparent"})
"""What a journal line holds for the product's own use."""


@dataclass(frozen=True, slots=True)
class Member:
    """One lease in a round. `share` is its part of the result, `cosine` how far it agrees with the sum of all.

    `began` and `took` are parts of the time that the round has taken so far, from 0 to 1.
    """

    task: Task
    update: Update | None
    share: float | None
    cosine: float | None
    began: float
    took: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the journal."""

    entry: Entry
    job: str | None
    told: str


def members_of(store: Store, view: RoundView, now: float) -> Sequence[Member]:
    """Return a round's leases in the order in which they were given."""
    updates = {update.task_id: update for update in view.updates}
    weights = {} if view.version is None else {row[0]: row[2] for row in read_manifest(view.version.manifest)}
    total = sum(weights.values()) or 1.0
    with store.snapshot() as records:
        measured = contribution_of(records, view.round.round_id)
    cosines = {} if measured is None else {part.update_id: part.cosine for part in measured.parts}
    start, end = view.round.started_at or now, view.round.closed_at or now
    length = max(1e-9, end - start)
    members = []
    for task in view.tasks:
        update = updates.get(task.task_id)
        weight = None if update is None else weights.get(update.update_id)
        began, ended = ((moment - start) / length for moment in (task.leased_at, task.ended_at or end))
        members.append(
            Member(
                task=task,
                update=update,
                share=None if weight is None else weight / total,
                cosine=None if update is None else cosines.get(update.update_id),
                began=min(1.0, max(0.0, began)),
                took=min(1.0, max(0.0, ended)) - min(1.0, max(0.0, began)),
            )
        )
    return members


def lines_of(store: Store, entries: Sequence[Entry], *, for_staff: bool) -> Sequence[Line]:
    """Return journal entries for a page; what is about keys and operators' acts is for operators and observers."""
    with store.snapshot() as records:
        names = {job.job_id: job.name for job in records.jobs.all()}
    return [
        Line(entry, None if entry.job_id is None else names.get(entry.job_id), _told(entry))
        for entry in entries
        if for_staff or entry.kind not in NOT_FOR_STRANGERS
    ]


def _told(entry: Entry) -> str:
    return ", ".join(
        f"{name} {_short(value)}"
        for name, value in json.loads(entry.payload).items()
        if value is not None and name not in UNTOLD_FIELDS
    )


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
