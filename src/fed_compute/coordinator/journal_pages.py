"""The journal in pages, newest first, as far as somebody may see it."""

from collections.abc import Sequence
from dataclasses import dataclass

from fed_compute.coordinator.shown import NOT_FOR_STRANGERS, Line, lines_of
from fed_compute.storage.sql.store import Store

REACH = 50_000
"""So many entries are looked through for one page, where no index helps: a search in a long journal stays quick."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: of one kind, client or job, each None for all, those before the number `before`."""

    kind: str | None = None
    client_id: str | None = None
    job: str | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class JournalPage:
    """Some lines. `older` is the number to go on before, None where nothing older can come."""

    lines: Sequence[Line]
    older: int | None


def journal_page(store: Store, wanted: Wanted, *, limit: int, for_staff: bool) -> JournalPage:
    """Return the newest lines that were asked for; what is about keys and operators' acts only to staff.

    A page may be empty although there are older lines: then it says where to go on.
    """
    with store.snapshot() as records:
        top = records.journal.last_seq() + 1 if wanted.before is None else wanted.before
        job = None if wanted.job is None else records.jobs.named(wanted.job)
        if wanted.job is not None and job is None:
            return JournalPage((), None)
        above = 0 if wanted.client_id is not None else max(0, top - 1 - REACH)
        entries = records.journal.newest(
            limit=limit,
            above=above,
            below=top,
            kind=wanted.kind,
            client_id=wanted.client_id,
            job_id=None if job is None else job.job_id,
            without=() if for_staff else NOT_FOR_STRANGERS,
        )
    bound = entries[-1].seq if len(entries) == limit else above + 1
    return JournalPage(lines_of(store, entries), bound if bound > 1 else None)
