"""Rows of model versions."""

from sqlalchemy import Connection, bindparam, insert, select

from fed_compute.ids import JobId, RoundId
from fed_compute.rounds.records import Version
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import columns, record, required, values

_VERSION, _V = columns(tables.versions, Version), tables.versions.c
_INSERT = insert(tables.versions)
_BY_NUMBER = select(*_VERSION).where(_V.job_id == bindparam("job_id"), _V.version == bindparam("version"))
_LATEST = select(*_VERSION).where(_V.job_id == bindparam("job_id")).order_by(_V.version.desc()).limit(1)
_OF_ROUND = select(*_VERSION).where(_V.round_id == bindparam("round_id"))


class VersionRows:
    """The version chain of each job. A row is written once and never changed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, version: Version) -> None:
        """Insert a version. A number that exists ends the transaction with `RecordConflict`."""
        self._connection.execute(_INSERT, values(version))

    def get(self, job_id: JobId, version: int) -> Version:
        """Return a version that other rows refer to."""
        row = self._connection.execute(_BY_NUMBER, {"job_id": job_id, "version": version}).one_or_none()
        return required(Version, row, f"v{version}")

    def find(self, job_id: JobId, version: int) -> Version | None:
        """Return one version of a job, if there is one."""
        row = self._connection.execute(_BY_NUMBER, {"job_id": job_id, "version": version}).one_or_none()
        return None if row is None else record(Version, row)

    def latest(self, job_id: JobId) -> Version:
        """Return the newest version of a job. Every job has at least v1."""
        return record(Version, self._connection.execute(_LATEST, {"job_id": job_id}).one())

    def of_round(self, round_id: RoundId) -> Version | None:
        """Return the version that a round produced."""
        row = self._connection.execute(_OF_ROUND, {"round_id": round_id}).one_or_none()
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
