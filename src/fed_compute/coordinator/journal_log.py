"""Each line of the journal as a line of the log, once it is committed."""

import json
from collections.abc import Sequence

import structlog

from fed_compute.errors import FedComputeError
from fed_compute.ids import JobId
from fed_compute.rounds.records import Entry
from fed_compute.storage.sql.store import Store

_OF_THE_LINE = frozenset({"event", "level", "timestamp", "exc_info"})

log = structlog.get_logger(__name__)


class JournalLog:
    """Writes what was committed, on the thread that committed: what a request did carries the request's id.

    The line's `event` is the entry's kind. Of its payload come numbers and words and nothing nested: what a round
    found out about each of hundreds of updates stays in the journal.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._names: dict[JobId, str] = {}

    def write(self, entries: Sequence[Entry]) -> None:
        """Write a line for each entry. Cost: one read of the jobs for each new job."""
        for entry in entries:
            payload = {name: value for name, value in json.loads(entry.payload).items() if name not in _OF_THE_LINE}
            told = {
                **payload,
                "seq": entry.seq,
                "job": self._name_of(entry.job_id),
                "round_id": entry.round_id,
                "client_id": entry.client_id,
                "task_id": entry.task_id,
            }
            log.info(
                entry.kind, **{name: value for name, value in told.items() if isinstance(value, str | int | float)}
            )

    def _name_of(self, job_id: JobId | None) -> str | None:
        if job_id is not None and job_id not in self._names:
            try:
                with self._store.snapshot() as records:
                    self._names = {job.job_id: job.name for job in records.jobs.all()}
            except FedComputeError as error:  # the commit is done; its line does without the name
                log.warning("job_name_unknown", job_id=job_id, code=error.code)
        return None if job_id is None else self._names.get(job_id)
