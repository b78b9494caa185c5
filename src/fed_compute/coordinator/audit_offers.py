"""Which open audit a client may take part in."""

from fed_compute.ids import ClientId
from fed_compute.rounds.audits import is_drawn
from fed_compute.rounds.records import Audit, Job
from fed_compute.rounds.scoring import Standing, may_audit
from fed_compute.storage.sql.store import Records

LATELY_SECONDS = 60.0
"""Whoever was heard of within this time takes part in the lottery."""


def audit_for(
    records: Records, client_id: ClientId, job: Job, standing: Standing | None, *, now: float
) -> Audit | None:
    """Return the oldest open audit of a job that a client may take part in now.

    Nobody audits the own update, and newcomers nobody's.
    """
    if not may_audit(standing, now=now):
        return None
    open_audits = records.audits.open_to(client_id, job.job_id, now=now)
    if not open_audits:
        return None
    active = records.clients.count(seen_since=now - LATELY_SECONDS)
    for audit in open_audits:
        waited = now - audit.opened_at
        if is_drawn(audit.salt, client_id, auditors=audit.auditors, active_clients=active, waited_seconds=waited):
            return audit
    return None
