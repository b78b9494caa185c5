"""Handing out training by the thousand."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fed_compute.clock import Clock
from fed_compute.coordinator.openings import free_slots
from fed_compute.coordinator.round_manager import RoundManager
from fed_compute.ids import ClientId, JobId, new_task_ids
from fed_compute.rounds.leases import OWN_TASKS, lease_deadline, soft_deadline
from fed_compute.rounds.machine import LeaseGranted
from fed_compute.rounds.quota import DAY_SECONDS, wait_seconds
from fed_compute.rounds.records import Job, JobState, Round, Task, TaskKind, TaskState, Version
from fed_compute.rounds.scoring import Standing
from fed_compute.storage.sql.bulk import Free
from fed_compute.storage.sql.journal import task_lines
from fed_compute.storage.sql.store import Records, Store


@dataclass(frozen=True, slots=True)
class Granted:
    """New leases of one round, in the order in which their clients stood, and what they all refer to."""

    job: Job
    round: Round
    version: Version
    tasks: tuple[Task, ...]


class BulkAssigner:
    """Gives many clients a lease to train in one transaction, by the rules of `TaskAssigner`."""

    def __init__(self, store: Store, rounds: RoundManager, clock: Clock, *, heartbeat_seconds: float) -> None:
        self._store = store
        self._rounds = rounds
        self._clock = clock
        self._heartbeat_seconds = heartbeat_seconds

    def grant(
        self, client_ids: Sequence[ClientId], *, job: JobId, heartbeats: Collection[ClientId] = ()
    ) -> Granted | None:
        """Give leases of the job's live round to the first of these clients that may have one, while slots last.

        Whoever is not registered or not active, has a lease, has reported in this round or has used up a quota is
        passed over. None says that nobody got one. Cost: two reads and two writes, however many clients.

        Args:
            client_ids: each at most once.
            job: whose round.
            heartbeats: those of them that will send heartbeats; the others hold their lease until the hard deadline.
        """
        with self._store.batch() as records:
            found, round_ = records.jobs.get(job), records.rounds.live(job)
            if round_ is None or found.state is not JobState.RUNNING or self._waits(records, round_, found):
                return None
            able = self._able(records, client_ids, round_)
            able = able[: free_slots(records, round_, now=self._clock.now())]
            if not able:
                return None
            own_seconds = records.measured.training_seconds_of_each(able, job, limit=OWN_TASKS)
            round_ = self._rounds.apply(records, round_, LeaseGranted())
            version = records.versions.get(job, round_.base_version)
            tasks = self._leases(able, own_seconds, round_, heartbeats)
            records.bulk.add_tasks(tasks)
            records.journal.append_all(
                task_lines(
                    "task_assigned", tasks, at=tasks[0].leased_at, task=TaskKind.TRAIN, version=round_.base_version
                )
            )
            return Granted(found, round_, version, tuple(tasks))

    def _waits(self, records: Records, round_: Round, job: Job) -> bool:
        """Say whether the round waits for more clients to be there."""
        if self._rounds.goes_on_gathering(records, round_, job):
            return True
        began = self._rounds.begins_to_gather(records, round_, job)
        return began and self._rounds.goes_on_gathering(records, records.rounds.get(round_.round_id), job)

    def _able(self, records: Records, client_ids: Sequence[ClientId], round_: Round) -> list[ClientId]:
        free = records.bulk.free(client_ids, round_.round_id)
        return [one for one in client_ids if one in free and self._is_within_quotas(records, free[one])]

    def _is_within_quotas(self, records: Records, client: Free) -> bool:
        client_id, rounds_per_day, kept = client
        if rounds_per_day is None and kept is None:
            return True
        now = self._clock.now()
        if kept is not None and wait_seconds(Standing.from_json(json.loads(kept)).quota, now=now) > 0:
            return False
        return rounds_per_day is None or records.clients.trained_since(client_id, now - DAY_SECONDS)[0] < rounds_per_day

    def _leases(
        self,
        able: Sequence[ClientId],
        own_seconds: Mapping[ClientId, Sequence[float]],
        round_: Round,
        heartbeats: Collection[ClientId],
    ) -> list[Task]:
        now = self._clock.now()
        until = {
            beats: lease_deadline(
                TaskKind.TRAIN,
                round_,
                heartbeats=beats,
                heartbeat_seconds=self._heartbeat_seconds,
                leased_at=now,
                now=now,
            )
            for beats in (True, False)
        }
        return [
            Task(
                task_id=task_id,
                job_id=round_.job_id,
                round_id=round_.round_id,
                client_id=client_id,
                kind=TaskKind.TRAIN,
                state=TaskState.LEASED,
                base_version=round_.base_version,
                leased_at=now,
                deadline=until[client_id in heartbeats],
                heartbeats=client_id in heartbeats,
                progress_at=now,
                soft_deadline=soft_deadline(round_, own_seconds.get(client_id, ()), now=now),
            )
            for client_id, task_id in zip(able, new_task_ids(len(able)), strict=True)
        ]
