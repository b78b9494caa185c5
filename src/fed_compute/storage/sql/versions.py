"""Rows of model versions."""

from sqlalchemy import Connection, insert, select

from fed_compute.ids import JobId, RoundId
from fed_compute.rounds.records import Version
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import columns, record, required, values

_VERSION = columns(tables.versions, Version)


class VersionRows:
    """The version chain of each job. A row is written once and never changed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, version: Version) -> None:
        """Insert a version. A number that exists ends the transaction with `RecordConflict`."""
        self._connection.execute(insert(tables.versions).values(**values(version)))

    def get(self, job_id: JobId, version: int) -> Version:
        """Return a version that other rows refer to."""
        query = select(*_VERSION).where(tables.versions.c.job_id == job_id, tables.versions.c.version == version)
        return required(Version, self._connection.execute(query).one_or_none(), f"v{version}")

    def find(self, job_id: JobId, version: int) -> Version | None:
        """Return one version of a job, if there is one."""
        query = select(*_VERSION).where(tables.versions.c.job_id == job_id, tables.versions.c.version == version)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else record(Version, row)

    def latest(self, job_id: JobId) -> Version:
        """Return the newest version of a job. Every job has at least v1."""
        query = select(*_VERSION).where(tables.versions.c.job_id == job_id).order_by(tables.versions.c.version.desc())
        return record(Version, self._connection.execute(query.limit(1)).one())

    def of_round(self, round_id: RoundId) -> Version | None:
        """Return the version that a round produced."""
        row = self._connection.execute(select(*_VERSION).where(tables.versions.c.round_id == round_id)).one_or_none()
        return None if row is None else record(Version, row)

    def page(self, job_id: JobId, *, limit: int, before: int | None = None) -> list[Version]:
        """Return a job's versions, newest first, at most `limit`, those before version `before`."""
        query = select(*_VERSION).where(tables.versions.c.job_id == job_id)
        if before is not None:
            query = query.where(tables.versions.c.version < before)
        rows = self._connection.execute(query.order_by(tables.versions.c.version.desc()).limit(limit))
        return [record(Version, row) for row in rows]

    def of_job(self, job_id: JobId) -> list[Version]:
        """Return every version of a job in order."""
        query = select(*_VERSION).where(tables.versions.c.job_id == job_id).order_by(tables.versions.c.version)
        return [record(Version, row) for row in self._connection.execute(query)]
