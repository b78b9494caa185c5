"""Hands out work as leases, extends them, and takes them back. Remembers nothing in memory."""

from dataclasses import dataclass, replace
from typing import Any

from fed_compute.clock import Clock
from fed_compute.coordinator.recipes import spec_of
from fed_compute.coordinator.round_manager import RoundManager
from fed_compute.errors import ClientBanned, JobNotFound, LeaseExpired, TaskNotFound
from fed_compute.ids import ClientId, TaskId, new_task_id
from fed_compute.rounds.machine import LeaseGranted, Looked
from fed_compute.rounds.records import (
    ClientState,
    Job,
    JobState,
    Round,
    RoundState,
    Task,
    TaskKind,
    TaskState,
    Version,
)
from fed_compute.storage.sql.store import Records, Store

MISSED_HEARTBEATS = 3
DAY_SECONDS = 86_400.0
QUOTA_LOOK_SECONDS = 3600.0
"""A client that has used up its quota is asked to look again at least this often."""
EVALUATION_SECONDS = 60.0
"""The shortest lease of an evaluation."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A live lease, and what it refers to."""

    task: Task
    job: Job
    round: Round
    version: Version


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """There is no work for this client now. `reason` is stable: `waiting`, `quota_used` or `job_finished`."""

    reason: str
    retry_after_seconds: float


@dataclass(frozen=True, slots=True)
class _Offer:
    job: Job
    round: Round
    version: Version
    kind: TaskKind


class TaskAssigner:
    """Gives each client at most one live lease, in rounds that still want updates."""

    def __init__(self, store: Store, rounds: RoundManager, clock: Clock, *, heartbeat_seconds: float) -> None:
        self._store = store
        self._rounds = rounds
        self._clock = clock
        self._heartbeat_seconds = heartbeat_seconds

    def next_task(
        self, client_id: ClientId, *, job: str | None = None, heartbeats: bool = True, evaluates: bool = True
    ) -> Assignment | NothingToDo:
        """Return the client's live lease, or a new one, or why there is none.

        Args:
            client_id: a registered client.
            job: only work of this job.
            heartbeats: whether the client will send heartbeats. One that does not gets the lease
                until the round's deadline, one that does loses it after three missed ones.
            evaluates: whether the client understands tasks of kind `evaluate`.

        Raises:
            JobNotFound: if `job` names none.
            ClientBanned: if the client was shut out meanwhile.
        """
        with self._store.snapshot() as records:
            found = self._find(records, client_id, job, evaluates)
        if isinstance(found, _Offer):
            with self._store.transaction() as records:
                found = self._find(records, client_id, job, evaluates)
                if isinstance(found, _Offer):
                    return self._grant(records, client_id, found, heartbeats=heartbeats)
        return found

    def heartbeat(self, client_id: ClientId, task_id: TaskId, *, progress: float) -> Task:
        """Record progress and extend the lease. The returned task says whether it is still live.

        Raises:
            TaskNotFound: if the client has no such task.
        """
        with self._store.transaction() as records:
            task = own_task(records, client_id, task_id)
            if task.state is not TaskState.LEASED:
                return task
            round_ = records.rounds.get(task.round_id)
            deadline = self._lease_deadline(task.kind, round_, heartbeats=True)
            task = replace(task, progress=progress, heartbeats=True, deadline=max(task.deadline, deadline))
            records.tasks.put(task)
            return task

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

    def revive_leases(self) -> None:
        """Give every client that sends heartbeats time to be heard again, after this process was away.

        A lease that ran out because nobody could answer its heartbeats goes on; the deadline of its
        round still holds.
        """
        with self._store.transaction() as records:
            for round_ in records.rounds.in_states([RoundState.COLLECTING]):
                for task in records.tasks.of_round(round_.round_id, TaskKind.TRAIN, state=TaskState.LEASED):
                    deadline = self._lease_deadline(task.kind, round_, heartbeats=task.heartbeats)
                    records.tasks.put(replace(task, deadline=max(task.deadline, deadline)))

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
        self, records: Records, client_id: ClientId, job_name: str | None, evaluates: bool
    ) -> Assignment | NothingToDo | _Offer:
        if (live := records.tasks.live_of(client_id)) is not None:
            return _assignment(records, live)
        jobs = records.jobs.all()
        if job_name is not None:
            jobs = [job for job in jobs if job.name == job_name]
            if not jobs:
                raise JobNotFound(job_name)
        for job in jobs:
            offer = evaluates and _evaluation(records, client_id, job)
            offer = offer or _training(records, client_id, job, now=self._clock.now())
            if offer:
                return _within_quota(records, client_id, offer, now=self._clock.now())
        if jobs and all(job.state is JobState.FINISHED for job in jobs):
            return NothingToDo("job_finished", retry_after_seconds=30.0)
        return NothingToDo("waiting", retry_after_seconds=2.0)

    def _grant(self, records: Records, client_id: ClientId, offer: _Offer, *, heartbeats: bool) -> Assignment:
        round_ = offer.round
        if offer.kind is TaskKind.TRAIN:
            current = records.rounds.get(round_.round_id, for_update=True)
            round_ = self._rounds.apply(records, current, LeaseGranted())
        task = Task(
            task_id=new_task_id(),
            job_id=offer.job.job_id,
            round_id=round_.round_id,
            client_id=client_id,
            kind=offer.kind,
            state=TaskState.LEASED,
            base_version=offer.version.version,
            leased_at=self._clock.now(),
            deadline=self._lease_deadline(offer.kind, round_, heartbeats=heartbeats),
            heartbeats=heartbeats,
        )
        records.tasks.add(task)
        self._note(records, "task_assigned", task, version=task.base_version)
        return Assignment(task, offer.job, round_, offer.version)

    def _lease_deadline(self, kind: TaskKind, round_: Round, *, heartbeats: bool) -> float:
        """Three missed heartbeats, but for training never beyond the round's own deadline."""
        now, beats = self._clock.now(), MISSED_HEARTBEATS * self._heartbeat_seconds
        if kind is TaskKind.EVALUATE:
            return now + max(beats, EVALUATION_SECONDS)
        round_deadline = round_.deadline if round_.deadline is not None else now + beats
        return min(now + beats, round_deadline) if heartbeats else round_deadline

    def _end(self, records: Records, task: Task, state: TaskState) -> Task:
        task = replace(task, state=state, ended_at=self._clock.now())
        records.tasks.put(task)
        self._note(records, f"task_{state}", task)
        if task.kind is TaskKind.TRAIN:
            self._rounds.apply(records, records.rounds.get(task.round_id, for_update=True), Looked())
        return task

    def _note(self, records: Records, kind: str, task: Task, **payload: Any) -> None:
        records.journal.append(
            kind,
            at=self._clock.now(),
            job_id=task.job_id,
            round_id=task.round_id,
            client_id=task.client_id,
            task_id=task.task_id,
            task=task.kind,
            **payload,
        )


def own_task(records: Records, client_id: ClientId, task_id: TaskId) -> Task:
    """Return a client's own task.

    Raises:
        TaskNotFound: if there is none of this id, or it is somebody else's: the same answer for both.
    """
    task = records.tasks.find(task_id)
    if task is None or task.client_id != client_id:
        raise TaskNotFound(task_id)
    return task


def _assignment(records: Records, task: Task) -> Assignment:
    round_ = records.rounds.get(task.round_id)
    version = records.versions.get(task.job_id, task.base_version)
    return Assignment(task, records.jobs.get(task.job_id), round_, version)


def _within_quota(records: Records, client_id: ClientId, offer: _Offer, *, now: float) -> _Offer | NothingToDo:
    """Hold back a training task that would be one too many within 24 hours.

    Raises:
        ClientBanned: if the client was shut out since its key was looked at.
    """
    client = records.clients.find(client_id)
    if client is None or client.state is not ClientState.ACTIVE:
        raise ClientBanned()
    if client.rounds_per_day is None or offer.kind is not TaskKind.TRAIN:
        return offer
    taken, first_at = records.clients.trained_since(client_id, now - DAY_SECONDS)
    if first_at is None or taken < client.rounds_per_day:
        return offer
    return NothingToDo("quota_used", retry_after_seconds=min(first_at + DAY_SECONDS - now, QUOTA_LOOK_SECONDS))


def _training(records: Records, client_id: ClientId, job: Job, *, now: float) -> _Offer | None:
    round_ = records.rounds.live(job.job_id)
    if round_ is None or round_.state is RoundState.AGGREGATING:
        return None
    if round_.deadline is not None and now >= round_.deadline:
        return None  # nobody has looked at the round yet; a lease would be over before it began
    counts = records.tasks.count(round_.round_id, TaskKind.TRAIN)
    taken = counts.get(TaskState.LEASED, 0) + counts.get(TaskState.REPORTED, 0)
    mine = records.tasks.of_client_in_round(client_id, round_.round_id, TaskKind.TRAIN)
    if taken >= round_.slots or any(task.state is TaskState.REPORTED for task in mine):
        return None
    version = records.versions.get(job.job_id, round_.base_version)
    return _Offer(job, round_, version, TaskKind.TRAIN)


def _evaluation(records: Records, client_id: ClientId, job: Job) -> _Offer | None:
    """Offer the newest version for evaluation, if it is due and this client has not measured it yet."""
    rules, version = spec_of(job).evaluation, records.versions.latest(job.job_id)
    if version.round_id is None or rules.every_rounds == 0:
        return None
    round_ = records.rounds.get(version.round_id)
    due = round_.number % rules.every_rounds == 0 or job.state is JobState.FINISHED
    if not due or records.tasks.evaluated_by(client_id, job.job_id, version.version):
        return None
    counts = records.tasks.count(round_.round_id, TaskKind.EVALUATE)
    if counts.get(TaskState.LEASED, 0) + counts.get(TaskState.REPORTED, 0) >= rules.max_clients:
        return None
    return _Offer(job, round_, version, TaskKind.EVALUATE)
