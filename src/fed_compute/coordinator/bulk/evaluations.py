"""Handing out evaluation, and taking measurements in, by the dozen."""

from collections.abc import Collection, Sequence

from fed_compute.clock import Clock
from fed_compute.coordinator.bulk.assigner import Granted
from fed_compute.coordinator.openings import due_evaluation, evaluation_slots
from fed_compute.ids import ClientId, JobId, new_task_id
from fed_compute.rounds.leases import lease_deadline
from fed_compute.rounds.records import RESTING_JOB_STATES, Job, Round, Task, TaskKind, TaskState, Version
from fed_compute.storage.sql.journal import task_lines
from fed_compute.storage.sql.store import Records, Store


class BulkEvaluations:
    """Gives many clients a lease to measure the newest version in one transaction, by the rules of `TaskAssigner`."""

    def __init__(self, store: Store, clock: Clock, *, heartbeat_seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._heartbeat_seconds = heartbeat_seconds

    def num_due(self, job: JobId) -> int:
        """Return how many more clients should measure the job's newest version now."""
        with self._store.snapshot() as records:
            found = _due(records, job)
            return 0 if found is None else evaluation_slots(records, found[0], found[1])

    def grant(
        self, client_ids: Sequence[ClientId], *, job: JobId, heartbeats: Collection[ClientId] = ()
    ) -> Granted | None:
        """Give leases to the first of these clients that may measure the newest version, while some are wanted.

        Whoever is not registered or not active, has a lease, or has or had this version to measure is passed over.
        None says that nobody got one.

        Args:
            client_ids: each at most once.
            job: whose newest version.
            heartbeats: those of them that will send heartbeats.
        """
        with self._store.transaction() as records:
            found = _due(records, job)
            if found is None:
                return None
            spec, round_, version = found
            able = _able(records, client_ids, round_)[: evaluation_slots(records, spec, round_)]
            if not able:
                return None
            tasks = [self._lease(client_id, round_, version, heartbeats) for client_id in able]
            records.bulk.add_tasks(tasks)
            records.journal.append_all(
                task_lines(
                    "task_assigned", tasks, at=tasks[0].leased_at, task=TaskKind.EVALUATE, version=version.version
                )
            )
            return Granted(spec, round_, version, tuple(tasks))

    def _lease(self, client_id: ClientId, round_: Round, version: Version, heartbeats: Collection[ClientId]) -> Task:
        now, beats, kind = self._clock.now(), client_id in heartbeats, TaskKind.EVALUATE
        every = self._heartbeat_seconds
        return Task(
            task_id=new_task_id(),
            job_id=round_.job_id,
            round_id=round_.round_id,
            client_id=client_id,
            kind=kind,
            state=TaskState.LEASED,
            base_version=version.version,
            leased_at=now,
            deadline=lease_deadline(kind, round_, heartbeats=beats, heartbeat_seconds=every, leased_at=now, now=now),
            heartbeats=beats,
            progress_at=now,
        )


def _due(records: Records, job_id: JobId) -> tuple[Job, Round, Version] | None:
    job = records.jobs.get(job_id)
    due = None if job.state in RESTING_JOB_STATES else due_evaluation(records, job)
    return None if due is None else (job, *due)


def _able(records: Records, client_ids: Sequence[ClientId], round_: Round) -> list[ClientId]:
    idle = records.bulk.idle(client_ids)
    asked = {task.client_id for task in records.tasks.of_round(round_.round_id, TaskKind.EVALUATE)}
    return [client_id for client_id in client_ids if client_id in idle and client_id not in asked]
