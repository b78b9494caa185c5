"""What clients measured on their held-out data: recorded per client, averaged by samples."""

from dataclasses import dataclass, replace

from fed_compute.clock import Clock
from fed_compute.coordinator.task_assigner import own_task
from fed_compute.errors import LeaseExpired, TaskNotFound
from fed_compute.ids import ClientId, JobId, TaskId
from fed_compute.rounds.records import Evaluation, Task, TaskKind, TaskState
from fed_compute.storage.sql.store import Store


@dataclass(frozen=True, slots=True)
class VersionQuality:
    """One version measured by several clients; means are weighted by samples."""

    version: int
    num_clients: int
    num_samples: int
    loss: float
    accuracy: float | None


class EvaluationRecorder:
    """Takes the results of evaluation tasks and answers how good each version is."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def record(
        self, client_id: ClientId, task_id: TaskId, *, num_samples: int, loss: float, accuracy: float | None
    ) -> Task:
        """Record a client's measurement. Sending it again changes nothing: the first one stands.

        Raises:
            TaskNotFound: if the client has no evaluation task of this id.
            LeaseExpired: if its lease has ended.
        """
        with self._store.transaction() as records:
            task = own_task(records, client_id, task_id)
            if task.kind is not TaskKind.EVALUATE:
                raise TaskNotFound(task_id)
            if task.state is TaskState.REPORTED:
                return task
            if task.state is not TaskState.LEASED:
                raise LeaseExpired(task_id=task_id)
            now = self._clock.now()
            task = replace(task, state=TaskState.REPORTED, progress=1.0, ended_at=now)
            records.tasks.put(task)
            records.evaluations.add(
                Evaluation(
                    task_id=task_id,
                    job_id=task.job_id,
                    version=task.base_version,
                    round_id=task.round_id,
                    client_id=client_id,
                    num_samples=num_samples,
                    loss=loss,
                    accuracy=accuracy,
                    recorded_at=now,
                )
            )
            records.journal.append(
                "evaluation_recorded",
                at=now,
                job_id=task.job_id,
                round_id=task.round_id,
                client_id=client_id,
                task_id=task_id,
                task=task.kind,
                version=task.base_version,
                num_samples=num_samples,
                loss=loss,
                accuracy=accuracy,
            )
            return task

    def of_job(self, job_id: JobId) -> dict[int, VersionQuality]:
        """Return the quality of each measured version of a job, by version number."""
        with self._store.snapshot() as records:
            evaluations = records.evaluations.of_job(job_id)
        by_version: dict[int, list[Evaluation]] = {}
        for evaluation in evaluations:
            by_version.setdefault(evaluation.version, []).append(evaluation)
        return {version: _quality(version, group) for version, group in by_version.items()}


def _quality(version: int, group: list[Evaluation]) -> VersionQuality:
    samples = sum(e.num_samples for e in group)
    classified = [(e.accuracy, e.num_samples) for e in group if e.accuracy is not None]
    return VersionQuality(
        version=version,
        num_clients=len(group),
        num_samples=samples,
        loss=sum(e.loss * e.num_samples for e in group) / samples,
        accuracy=sum(a * n for a, n in classified) / sum(n for _, n in classified) if classified else None,
    )
