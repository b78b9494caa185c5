"""Rows of audits and of the auditors' parts in them."""

from sqlalchemy import Connection, bindparam, func, insert, select, update

from fed_compute.ids import AuditId, ClientId, JobId, RoundId, TaskId
from fed_compute.rounds.audits import Verdict
from fed_compute.rounds.records import Audit, AuditReport, TaskState
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import columns, inserted_id, record, required, values

_AUDIT = columns(tables.audits, Audit)
_REPORT = columns(tables.audit_reports, AuditReport)
_A, _R, _T = tables.audits.c, tables.audit_reports.c, tables.tasks.c
_BY_ID = select(*_AUDIT).where(_A.audit_id == bindparam("audit_id"))
_OF_TASK = select(*_AUDIT).join(tables.audit_reports, _R.audit_id == _A.audit_id)
_OF_TASK = _OF_TASK.where(_R.task_id == bindparam("task_id"))
_MINE = select(_R.audit_id).where(_R.client_id == bindparam("client_id"))
_OPEN_TO = (
    select(*_AUDIT, select(func.count()).select_from(tables.audit_reports.join(tables.tasks, _T.task_id == _R.task_id))
        .where(_R.audit_id == _A.audit_id, _T.state.in_([TaskState.LEASED, TaskState.REPORTED]))
        .correlate(tables.audits).scalar_subquery())
    .where(
        _A.job_id == bindparam("job_id"),
        _A.closed_at.is_(None),
        _A.client_id != bindparam("client_id"),
        _A.deadline > bindparam("now"),
        _A.audit_id.not_in(_MINE),
    )
    .order_by(_A.audit_id)
    .limit(50)
)  # fmt: skip


class AuditRows:
    """Audits, one per update at most; the database enforces it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, audit: Audit) -> AuditId:
        """Insert an audit and return its number."""
        row = {name: value for name, value in values(audit).items() if name != "audit_id"}
        return AuditId(inserted_id(self._connection.execute(insert(tables.audits).values(**row))))

    def get(self, audit_id: AuditId) -> Audit:
        """Return an audit that other rows refer to."""
        return required(Audit, self._connection.execute(_BY_ID, {"audit_id": audit_id}).one_or_none(), audit_id)

    def put(self, audit: Audit) -> None:
        """Overwrite an audit."""
        change = update(tables.audits).where(_A.audit_id == audit.audit_id)
        self._connection.execute(change.values(**values(audit)))

    def of_round(self, round_id: RoundId) -> list[Audit]:
        """Return the audits of a round's updates, in the order of the updates."""
        query = select(*_AUDIT).where(_A.round_id == round_id).order_by(_A.update_id)
        return [record(Audit, row) for row in self._connection.execute(query)]

    def of_task(self, task_id: TaskId) -> Audit:
        """Return the audit that a task of kind `audit` is part of."""
        return required(Audit, self._connection.execute(_OF_TASK, {"task_id": task_id}).one_or_none(), task_id)

    def count_open(self, job_id: JobId) -> int:
        """Return how many audits of a job are open."""
        query = select(func.count()).where(_A.job_id == job_id, _A.closed_at.is_(None))
        return self._connection.execute(query).scalar_one()

    def open_to(self, client_id: ClientId, job_id: JobId, *, now: float) -> list[Audit]:
        """Return open audits that a client has no part in, not as the audited one either, and that want more parts."""
        rows = self._connection.execute(_OPEN_TO, {"client_id": client_id, "job_id": job_id, "now": now})
        return [audit for *row, taken in rows if taken < (audit := Audit(*row)).auditors]

    def overdue(self, now: float, *, limit: int) -> list[AuditId]:
        """Return open audits whose time was over before `now`."""
        query = select(_A.audit_id).where(_A.closed_at.is_(None), _A.deadline <= now).order_by(_A.audit_id)
        return list(self._connection.execute(query.limit(limit)).scalars())

    def last_verdicts(self, client_id: ClientId, *, before: AuditId, limit: int) -> list[Verdict]:
        """Return the verdicts of a client's last decided audits before another one, newest first."""
        query = select(_A.verdict).where(
            _A.client_id == client_id, _A.audit_id < before, _A.verdict.is_not(None), _A.verdict != Verdict.UNDECIDED
        )
        return list(self._connection.execute(query.order_by(_A.audit_id.desc()).limit(limit)).scalars())

    def passed_scores(self, job_id: JobId, *, limit: int) -> list[float]:
        """Return the scores of a job's last passed audits."""
        query = select(_A.score).where(_A.job_id == job_id, _A.verdict == Verdict.PASSED)
        return list(self._connection.execute(query.order_by(_A.audit_id.desc()).limit(limit)).scalars())


class AuditReportRows:
    """The auditors' parts, one per auditor and audit at most; the database enforces it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, report: AuditReport) -> None:
        """Insert a part. A second one of the same auditor ends the transaction with `RecordConflict`."""
        self._connection.execute(insert(tables.audit_reports).values(**values(report)))

    def put(self, report: AuditReport) -> None:
        """Overwrite a part."""
        change = update(tables.audit_reports).where(_R.task_id == report.task_id)
        self._connection.execute(change.values(**values(report)))

    def of_audit(self, audit_id: AuditId) -> list[AuditReport]:
        """Return the parts of an audit, by task."""
        query = select(*_REPORT).where(_R.audit_id == audit_id).order_by(_R.task_id)
        return [record(AuditReport, row) for row in self._connection.execute(query)]
