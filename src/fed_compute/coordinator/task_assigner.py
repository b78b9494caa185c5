"""Hands out work as leases, extends them, and takes them back. Remembers nothing in memory."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from fed_compute.clock import Clock
from fed_compute.coordinator.audit_offers import audit_for
from fed_compute.coordinator.openings import due_evaluation, free_slots
from fed_compute.coordinator.pace import Pace
from fed_compute.coordinator.round_manager import RoundManager
from fed_compute.coordinator.standings import standing_of
from fed_compute.errors import ClientBanned, JobNotFound, LeaseExpired, TaskNotFound
from fed_compute.ids import ClientId, Digest, TaskId, new_task_id
from fed_compute.rounds.leases import OWN_TASKS, lease_deadline, soft_deadline, stands_still
from fed_compute.rounds.machine import LeaseGranted, Looked
from fed_compute.rounds.pacing import Window, lot_of
from fed_compute.rounds.quota import DAY_SECONDS, wait_seconds
from fed_compute.rounds.records import (
    OVER_JOB_STATES,
    RESTING_JOB_STATES,
    Audit,
    AuditReport,
    ClientState,
    Job,
    Round,
    Task,
    TaskKind,
    TaskState,
    Version,
)
from fed_compute.rounds.scoring import Standing
from fed_compute.storage.sql.journal import task_line
from fed_compute.storage.sql.store import Records, Store

LONGEST_REST_SECONDS = 3600.0
"""A client that has used up its day's quota is told to ask again after this time, and the usual gap, at the latest."""
JOB_FINISHED = "job_finished"
"""Why there is nothing to do: every job that the client may work for is finished."""
FINISHED_SECONDS = 30.0
"""Whoever would wait for another job asks no more often."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A live lease, and what it refers to. `audited` is the digest of the update that an audit is about."""

    task: Task
    job: Job
    round: Round
    version: Version
    audited: Digest | None = None


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """There is no work for this client now; it may ask again within the window.

    `reason` is stable: `waiting`, `gathering` (more clients must be there before the round starts),
    `quota_used`, `job_paused`, or `job_finished`, which a stopped job is as well. `retry_after_seconds` is a
    moment of the window, drawn for this client.
    """

    reason: str
    window: Window
    retry_after_seconds: float


@dataclass(frozen=True, slots=True)
class _Offer:
    job: Job
    round: Round
    version: Version
    kind: TaskKind
    audit: Audit | None = None


class TaskAssigner:
    """Gives each client at most one live lease, in rounds that still want updates."""

    def __init__(
        self, store: Store, rounds: RoundManager, clock: Clock, pace: Pace, *, heartbeat_seconds: float
    ) -> None:
        self._store = store
        self._rounds = rounds
        self._clock = clock
        self._pace = pace
        self._heartbeat_seconds = heartbeat_seconds

    def next_task(
        self,
        client_id: ClientId,
        *,
        job: str | None = None,
        heartbeats: bool = True,
        evaluates: bool = True,
        audits: bool = False,
    ) -> Assignment | NothingToDo:
        """Return the client's live lease, or a new one, or why there is none.

        Args:
            client_id: a registered client.
            job: only work of this job.
            heartbeats: whether the client will send heartbeats. One that does not gets the lease
                until the hard deadline, one that does loses it after three missed ones.
            evaluates: whether the client understands tasks of kind `evaluate`.
            audits: whether the client understands tasks of kind `audit`.

        Raises:
            JobNotFound: if `job` names none.
            ClientBanned: if the client was shut out meanwhile.
        """
        kinds = {TaskKind.TRAIN: True, TaskKind.EVALUATE: evaluates, TaskKind.AUDIT: audits}
        wanted = frozenset(kind for kind, is_wanted in kinds.items() if is_wanted)
        with self._store.snapshot() as records:
            found = self._find(records, client_id, job, wanted)
        if isinstance(found, _Offer):
            with self._store.transaction() as records:
                found = self._find(records, client_id, job, wanted)
                if isinstance(found, _Offer) and self._rounds.begins_to_gather(records, found.round, found.job):
                    found = self._find(records, client_id, job, wanted)
                if isinstance(found, _Offer):
                    return self._grant(records, client_id, found, heartbeats=heartbeats)
        return found

    def nothing_yet(self, client_id: ClientId) -> NothingToDo:
        """Send a client away without a look at the records."""
        return _nothing("waiting", self._pace.last_window(), client_id, now=self._clock.now())

    def heartbeat(self, client_id: ClientId, task_id: TaskId, *, progress: float) -> Task:
        """Record progress and extend the lease. The returned task says whether it is still live.

        One that stands still for too long is over, however many heartbeats come.

        Raises:
            TaskNotFound: if the client has no such task.
        """
        with self._store.transaction() as records:
            task = own_task(records, client_id, task_id)
            if task.state is not TaskState.LEASED:
                return task
            if progress > task.progress:
                task = replace(task, progress=progress, progress_at=self._clock.now())
            if stands_still(task, now=self._clock.now()):
                return self._end(records, task, TaskState.EXPIRED)
            return self._extend(records, replace(task, heartbeats=True))

    def release(self, client_id: ClientId, task_id: TaskId) -> Task:
        """Take a lease back because the client gives it up. Doing it twice changes nothing.

        Raises:
            TaskNotFound: if the client has no such task.
            LeaseExpired: if the task has ended in another way.
        """
        with self._store.transaction() as records:
            task = own_task(records, client_id, task_id)
            if task.state is TaskState.RELEASED:
                return task
            if task.state is not TaskState.LEASED:
                raise LeaseExpired(task_id=task_id)
            return self._end(records, task, TaskState.RELEASED)

    def cancel_lease(self, records: Records, client_id: ClientId) -> Task | None:
        """Take the live lease of a client back, if it has one, in the caller's transaction. Nobody's failure."""
        task = records.tasks.live_of(client_id)
        return None if task is None else self._end(records, task, TaskState.CANCELLED)

    def revive_leases(self) -> int:
        """Give every client that sends heartbeats time to be heard again, after this process was away.

        A lease that ran out because nobody could answer its heartbeats goes on, and its progress may have grown
        unheard; the deadline of its round still holds. One that ran out all the same was kept from reporting: it
        is taken back, which is nobody's failure. Returns how many had run out and go on.
        """
        revived, now = 0, self._clock.now()
        with self._store.transaction() as records:
            self._pace.resume(records)
            for task in chain.from_iterable(records.leases.of_job(job.job_id) for job in records.jobs.all()):
                extended = self._extend(records, replace(task, progress_at=now))
                revived += task.deadline < now <= extended.deadline
            while overdue := records.tasks.overdue(now, limit=1000):
                for task in overdue:
                    self._close(records, task, TaskState.CANCELLED)
        return revived

    def extend_leases(self, records: Records, job: Job) -> None:
        """Let a job's leases to train last as long as they may now that their round's deadline moved, or none runs."""
        for task in records.leases.of_job(job.job_id):
            self._extend(records, task)

    def expire_leases(self) -> bool:
        """Take back every lease that ran out. Say whether there was one."""
        with self._store.snapshot() as records:
            overdue = records.tasks.overdue(self._clock.now(), limit=1000)
        for found in overdue:
            with self._store.transaction() as records:
                task = records.tasks.get(found.task_id)
                if task.state is TaskState.LEASED and task.deadline < self._clock.now():
                    self._end(records, task, TaskState.EXPIRED)
        return bool(overdue)

    def _find(
        self, records: Records, client_id: ClientId, job_name: str | None, wanted: Set[TaskKind]
    ) -> Assignment | NothingToDo | _Offer:
        if (live := records.tasks.live_of(client_id)) is not None:
            return _assignment(records, live)
        jobs = records.jobs.all()
        if job_name is not None and not (jobs := [job for job in jobs if job.name == job_name]):
            raise JobNotFound(job_name)
        now, standing, gathering = self._clock.now(), standing_of(records, client_id), False
        rest = _rest_seconds(records, client_id, standing, now=now)
        for job in (job for job in jobs if job.state not in RESTING_JOB_STATES):
            offer = _evaluation(records, client_id, job) if TaskKind.EVALUATE in wanted else None
            if offer is None and TaskKind.AUDIT in wanted:
                offer = _audit(records, client_id, job, standing, now=now)
            if offer is None and rest == 0:
                offer = _training(records, client_id, job, now=now)
                if offer is not None and self._rounds.goes_on_gathering(records, offer.round, job):
                    offer, gathering = None, True
            if offer is not None:
                return offer
        reason, window = _why_nothing(jobs, self._pace.window(records), rest_seconds=rest, gathering=gathering)
        return _nothing(reason, window, client_id, now=now)

    def _grant(self, records: Records, client_id: ClientId, offer: _Offer, *, heartbeats: bool) -> Assignment:
        round_ = offer.round
        if offer.kind is TaskKind.TRAIN:
            current = records.rounds.get(round_.round_id, for_update=True)
            round_ = self._rounds.apply(records, current, LeaseGranted())
        now = self._clock.now()
        deadline = self._deadline(offer.kind, round_, heartbeats=heartbeats, leased_at=now)
        task = _new_task(records, client_id, offer, round_, deadline=deadline, heartbeats=heartbeats, now=now)
        records.tasks.add(task)
        if offer.audit is not None:
            records.audit_reports.add(AuditReport(task.task_id, offer.audit.audit_id, client_id))
        _note(records, "task_assigned", task, at=now, version=task.base_version)
        return _assignment(records, task)

    def _extend(self, records: Records, task: Task) -> Task:
        """Store a live lease with the time that it has from now on, which is never less than it had."""
        round_ = records.rounds.get(task.round_id)
        deadline = self._deadline(task.kind, round_, heartbeats=task.heartbeats, leased_at=task.leased_at)
        task = replace(task, deadline=max(task.deadline, deadline))
        records.tasks.put(task)
        return task

    def _deadline(self, kind: TaskKind, round_: Round, *, heartbeats: bool, leased_at: float) -> float:
        now, every = self._clock.now(), self._heartbeat_seconds
        return lease_deadline(
            kind, round_, heartbeats=heartbeats, heartbeat_seconds=every, leased_at=leased_at, now=now
        )

    def _end(self, records: Records, task: Task, state: TaskState) -> Task:
        """End a lease, and look at its round, which may have waited for it."""
        task = self._close(records, task, state)
        if task.kind is TaskKind.TRAIN:
            self._rounds.apply(records, records.rounds.get(task.round_id, for_update=True), Looked())
        return task

    def _close(self, records: Records, task: Task, state: TaskState) -> Task:
        now = self._clock.now()
        task = replace(task, state=state, ended_at=now)
        records.tasks.put(task)
        _note(records, f"task_{state}", task, at=now)
        return task


def _note(records: Records, kind: str, task: Task, *, at: float, **payload: Any) -> None:
    records.journal.append_all([task_line(kind, task, at=at, task=task.kind, **payload)])


def own_task(records: Records, client_id: ClientId, task_id: TaskId) -> Task:
    """Return a client's own task.

    Raises:
        TaskNotFound: if there is none of this id, or it is somebody else's: the same answer for both.
    """
    task = records.tasks.find(task_id)
    if task is None or task.client_id != client_id:
        raise TaskNotFound(task_id)
    return task


def _new_task(
    records: Records,
    client_id: ClientId,
    offer: _Offer,
    round_: Round,
    *,
    deadline: float,
    heartbeats: bool,
    now: float,
) -> Task:
    expected_by = None
    if offer.kind is TaskKind.TRAIN:
        own = records.measured.training_seconds_of(client_id, round_.job_id, limit=OWN_TASKS)
        expected_by = soft_deadline(round_, own, now=now)
    return Task(
        task_id=new_task_id(),
        job_id=offer.job.job_id,
        round_id=round_.round_id,
        client_id=client_id,
        kind=offer.kind,
        state=TaskState.LEASED,
        base_version=offer.version.version,
        leased_at=now,
        deadline=deadline,
        heartbeats=heartbeats,
        progress_at=now,
        soft_deadline=expected_by,
    )


def _why_nothing(jobs: Sequence[Job], window: Window, *, rest_seconds: float, gathering: bool) -> tuple[str, Window]:
    """Return why a client finds no work in some jobs, and when it may look again; `window` is the usual time."""
    states = {job.state for job in jobs}
    if states and states <= set(OVER_JOB_STATES):
        return JOB_FINISHED, window.at_least(FINISHED_SECONDS)
    if states and states <= {*OVER_JOB_STATES, *RESTING_JOB_STATES}:
        return "job_paused", window
    if rest_seconds > 0:
        return "quota_used", window.after(min(rest_seconds, LONGEST_REST_SECONDS))
    return "gathering" if gathering else "waiting", window


def _nothing(reason: str, window: Window, client_id: ClientId, *, now: float) -> NothingToDo:
    return NothingToDo(reason, window, window.at(lot_of(client_id, now=now)))


def _assignment(records: Records, task: Task) -> Assignment:
    round_ = records.rounds.get(task.round_id)
    version = records.versions.get(task.job_id, task.base_version)
    audited = None
    if task.kind is TaskKind.AUDIT:
        audited = records.updates.get(records.audits.of_task(task.task_id).update_id).digest
    return Assignment(task, records.jobs.get(task.job_id), round_, version, audited)


def _rest_seconds(records: Records, client_id: ClientId, standing: Standing | None, *, now: float) -> float:
    """Return how long the client may take no training: its standing and its invitation both set a daily quota.

    Raises:
        ClientBanned: if the client was shut out since its key was looked at.
    """
    client = records.clients.find(client_id)
    if client is None or client.state is not ClientState.ACTIVE:
        raise ClientBanned()
    rest = wait_seconds(standing.quota if standing is not None else None, now=now)
    if client.rounds_per_day is None:
        return rest
    taken, first_at = records.clients.trained_since(client_id, now - DAY_SECONDS)
    if first_at is None or taken < client.rounds_per_day:
        return rest
    return max(rest, first_at + DAY_SECONDS - now)


def _training(records: Records, client_id: ClientId, job: Job, *, now: float) -> _Offer | None:
    round_ = records.rounds.live(job.job_id)
    if round_ is None or free_slots(records, round_, now=now) == 0:
        return None
    if records.updates.count(round_.round_id, client_id=client_id):
        return None
    version = records.versions.get(job.job_id, round_.base_version)
    return _Offer(job, round_, version, TaskKind.TRAIN)


def _evaluation(records: Records, client_id: ClientId, job: Job) -> _Offer | None:
    """Offer the newest version for evaluation, if it is due and this client has not measured it yet."""
    due = due_evaluation(records, job)
    if due is None or records.tasks.evaluated_by(client_id, job.job_id, due[1].version):
        return None
    return _Offer(job, *due, TaskKind.EVALUATE)


def _audit(records: Records, client_id: ClientId, job: Job, standing: Standing | None, *, now: float) -> _Offer | None:
    """Offer a look at somebody else's update, if there is one to be looked at by this client."""
    audit = audit_for(records, client_id, job, standing, now=now)
    if audit is None:
        return None
    round_, update = records.rounds.get(audit.round_id), records.updates.get(audit.update_id)
    version = records.versions.get(job.job_id, update.base_version)
    return _Offer(job, round_, version, TaskKind.AUDIT, audit)
