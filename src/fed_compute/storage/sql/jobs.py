"""Rows of jobs."""

import dataclasses

from sqlalchemy import Connection, bindparam, insert, select, update

from fed_compute.errors import JobExists
from fed_compute.ids import JobId
from fed_compute.rounds.records import Job, JobState
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.failures import unique_or
from fed_compute.storage.sql.memory import View
from fed_compute.storage.sql.rows import columns, inserted_id, record, required

_JOB, _J = columns(tables.jobs, Job), tables.jobs.c
_BY_ID = select(*_JOB).where(_J.job_id == bindparam("job_id"))
_BY_NAME = select(*_JOB).where(_J.name == bindparam("name"))
_ALL = select(*_JOB).order_by(_J.job_id)


class JobRows:
    """Jobs by id and by name. A job's recipe never changes after it was added."""

    def __init__(self, connection: Connection, view: View) -> None:
        self._connection = connection
        self._view = view

    def add(self, *, name: str, spec: str, schema: str, now: float) -> Job:
        """Insert a job in state RUNNING and return it with its id.

        Raises:
            JobExists: if another job has the name.
        """
        job = Job(JobId(0), name=name, spec=spec, schema=schema, state=JobState.RUNNING, created_at=now)
        row = {k: v for k, v in dataclasses.asdict(job).items() if k != "job_id"}
        with unique_or(JobExists(name)):
            result = self._connection.execute(insert(tables.jobs).values(**row))
        return dataclasses.replace(job, job_id=JobId(inserted_id(result)))

    def get(self, job_id: JobId) -> Job:
        """Return a job that other rows refer to."""
        if known := self._view.recall(lambda memory: memory.jobs.get(job_id)):
            return known
        row = self._connection.execute(_BY_ID, {"job_id": job_id}).one_or_none()
        found = required(Job, row, job_id)
        self._view.learn(lambda memory: memory.jobs.setdefault(job_id, found))
        return found

    def named(self, name: str) -> Job | None:
        """Return the job of this name."""
        row = self._connection.execute(_BY_NAME, {"name": name}).one_or_none()
        return None if row is None else record(Job, row)

    def all(self) -> list[Job]:
        """Return every job, oldest first."""
        return [record(Job, row) for row in self._connection.execute(_ALL)]

    def set_state(self, job_id: JobId, state: JobState) -> None:
        """Change the state of a job."""
        self._connection.execute(update(tables.jobs).where(tables.jobs.c.job_id == job_id).values(state=state))
        self._view.note(lambda memory: memory.jobs.pop(job_id, None))
