"""Audits: other clients look at accepted updates, on their own held-out data.

The planner reads the journal and opens audits of published rounds. The assigner offers them as tasks to
clients that said they can, were drawn by lot, and have earned it. The desk takes what they measured and
gives the verdict, which the journal carries to reputation and credit. No model version waits for any of this.
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np

from fed_compute.clock import Clock
from fed_compute.coordinator.folding import read_manifest
from fed_compute.coordinator.journal_reader import Payload, State, catch_up
from fed_compute.coordinator.recipes import spec_of
from fed_compute.coordinator.standings import standing_of
from fed_compute.coordinator.task_assigner import own_task
from fed_compute.errors import LeaseExpired, RoundNotFound, TaskNotFound
from fed_compute.ids import AuditId, ClientId, RoundId, TaskId, UpdateId
from fed_compute.rounds.audits import (
    DOUBTS_BEFORE_FAILURE,
    SCORES_KEPT,
    Candidate,
    Verdict,
    choose_audited,
    loss_score,
    quorum,
    verdict_on,
)
from fed_compute.rounds.records import Audit, AuditReport, Entry, Task, TaskKind, TaskState, Update
from fed_compute.storage.sql.store import Records, Store

READER = "audits"
AUDIT_SECONDS = 3600.0
MOST_OPEN = 200
"""A job with so many open audits gets no more: its auditors cannot keep up."""


class AuditPlanner:
    """Opens audits of published updates, as the schedule and chance will have it. Nobody waits for it.

    What was published longer ago than an audit lasts is let be: nobody opens old cases after a long absence.
    """

    def __init__(self, store: Store, clock: Clock, rng: np.random.Generator) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng

    def catch_up(self) -> bool:
        """Take in what the journal has that was not seen yet."""
        return catch_up(self._store, READER, self._fold)

    def _fold(self, records: Records, entry: Entry, payload: Payload, state: State) -> None:
        if entry.kind != "version_published" or entry.round_id is None or entry.job_id is None:
            return
        auditors = spec_of(records.jobs.get(entry.job_id)).audits.auditors
        is_old = entry.at + AUDIT_SECONDS <= self._clock.now()
        if auditors == 0 or is_old or records.audits.of_round(entry.round_id):
            return
        if records.audits.count_open(entry.job_id) >= MOST_OPEN:
            return
        version = records.versions.get(entry.job_id, payload["version"])
        updates = [records.updates.get(UpdateId(one)) for one, *_ in read_manifest(version.manifest)]
        chosen = set(choose_audited([_candidate(records, update) for update in updates], self._rng))
        for update in updates:
            if update.update_id in chosen:
                self._open(records, update, auditors, at=entry.at)

    def _open(self, records: Records, update: Update, auditors: int, *, at: float) -> None:
        audit = Audit(
            audit_id=AuditId(0),
            update_id=update.update_id,
            job_id=update.job_id,
            round_id=update.round_id,
            client_id=update.client_id,
            auditors=auditors,
            salt=self._rng.bytes(16).hex(),
            opened_at=at,
            deadline=at + AUDIT_SECONDS,
        )
        audit = replace(audit, audit_id=records.audits.add(audit))
        _note(records, "audit_opened", audit, update.task_id, at=at, auditors=auditors)


@dataclass(frozen=True, slots=True)
class AuditView:
    """An audit and how many of its auditors have answered."""

    audit: Audit
    reported: int


class AuditDesk:
    """Hands out the update that is to be looked at, takes what auditors measured, and gives the verdict."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def audited_update(self, client_id: ClientId, task_id: TaskId) -> Update:
        """Return the update that a client's audit task is about.

        Raises:
            TaskNotFound: if the client has no such task of kind `audit`.
            LeaseExpired: if its lease has ended.
        """
        with self._store.snapshot() as records:
            task = _audit_task(records, client_id, task_id)
            if task.state is not TaskState.LEASED:
                raise LeaseExpired(task_id=task_id)
            return records.updates.get(records.audits.of_task(task_id).update_id)

    def record(
        self, client_id: ClientId, task_id: TaskId, *, num_samples: int, base_loss: float, loss: float | None
    ) -> Task:
        """Record what an auditor measured; the last one wanted brings the verdict. The first answer stands.

        Args:
            client_id: the auditor.
            task_id: its task.
            num_samples: held-out samples that it measured on.
            base_loss: the loss of the base model on them.
            loss: the loss of the base model with the update added; None if it is NaN or infinite.

        Raises:
            TaskNotFound: if the client has no such task of kind `audit`.
            LeaseExpired: if its lease has ended.
        """
        with self._store.transaction() as records:
            task = _audit_task(records, client_id, task_id)
            if task.state is TaskState.REPORTED:
                return task
            if task.state is not TaskState.LEASED:
                raise LeaseExpired(task_id=task_id)
            now, audit = self._clock.now(), records.audits.of_task(task_id)
            task = replace(task, state=TaskState.REPORTED, progress=1.0, ended_at=now)
            records.tasks.put(task)
            report = AuditReport(task_id, audit.audit_id, client_id, num_samples, base_loss, loss, now)
            records.audit_reports.put(report)
            if len(_answers(records, audit)) >= audit.auditors:
                self._close(records, audit)
            return task

    def close_overdue(self) -> bool:
        """Close the audits whose time is over, by the answers that came. Say whether there was one."""
        with self._store.snapshot() as records:
            overdue = records.audits.overdue(self._clock.now(), limit=100)
        for audit_id in overdue:
            with self._store.transaction() as records:
                audit = records.audits.get(audit_id)
                if audit.closed_at is None:
                    self._close(records, audit)
        return bool(overdue)

    def of_round(self, round_id: int) -> list[AuditView]:
        """Return the audits of a round's updates, in the order of the updates.

        Raises:
            RoundNotFound: if there is no such round.
        """
        with self._store.snapshot() as records:
            if records.rounds.find(RoundId(round_id)) is None:
                raise RoundNotFound(round_id)
            audits = records.audits.of_round(RoundId(round_id))
            return [AuditView(audit, len(_answers(records, audit))) for audit in audits]

    def _close(self, records: Records, audit: Audit) -> None:
        now, answers = self._clock.now(), _answers(records, audit)
        scores = [loss_score(base_loss, loss) for base_loss, loss in answers]
        enough = len(scores) >= quorum(audit.auditors)
        last = records.audits.last_verdicts(audit.client_id, before=audit.audit_id, limit=DOUBTS_BEFORE_FAILURE)
        verdict = verdict_on(
            scores if enough else [],
            passed_scores=records.audits.passed_scores(audit.job_id, limit=SCORES_KEPT),
            doubts_before=len(list(itertools.takewhile(lambda one: one is not Verdict.PASSED, last))),
        )
        score = float(np.median(scores)) if enough else None
        audit = replace(audit, closed_at=now, verdict=verdict, score=score)
        records.audits.put(audit)
        self._cancel_others(records, audit)
        task_id = records.updates.get(audit.update_id).task_id
        _note(records, "audit_closed", audit, task_id, at=now, verdict=verdict, score=score, answers=len(scores))

    def _cancel_others(self, records: Records, audit: Audit) -> None:
        """End the leases of auditors who have not answered: nobody waits for them any more."""
        for report in records.audit_reports.of_audit(audit.audit_id):
            task = records.tasks.get(report.task_id)
            if task.state is TaskState.LEASED:
                records.tasks.put(replace(task, state=TaskState.CANCELLED, ended_at=self._clock.now()))
                records.journal.append(
                    "task_cancelled",
                    at=self._clock.now(),
                    job_id=task.job_id,
                    round_id=task.round_id,
                    client_id=task.client_id,
                    task_id=task.task_id,
                    task=task.kind,
                )


def _candidate(records: Records, update: Update) -> Candidate:
    standing = standing_of(records, update.client_id)
    if standing is None:
        return Candidate(update.update_id, passed_in_a_row=0, suspicious=False)
    return Candidate(update.update_id, standing.audits_passed_in_a_row, suspicious=standing.is_suspicious)


def _audit_task(records: Records, client_id: ClientId, task_id: TaskId) -> Task:
    task = own_task(records, client_id, task_id)
    if task.kind is not TaskKind.AUDIT:
        raise TaskNotFound(task_id)
    return task


def _answers(records: Records, audit: Audit) -> list[tuple[float, float | None]]:
    """Return (base loss, loss) of each auditor who has answered."""
    reports = records.audit_reports.of_audit(audit.audit_id)
    return [(report.base_loss, report.loss) for report in reports if report.base_loss is not None]


def _note(records: Records, kind: str, audit: Audit, task_id: TaskId, *, at: float, **payload: object) -> None:
    records.journal.append(
        kind,
        at=at,
        job_id=audit.job_id,
        round_id=audit.round_id,
        client_id=audit.client_id,
        task_id=task_id,
        audit_id=audit.audit_id,
        **payload,
    )
