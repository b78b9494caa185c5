"""What clients measured on their held-out data: recorded per client, averaged by samples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fed_compute.clock import Clock
from fed_compute.errors import FedComputeError, LeaseExpired, TaskNotFound
from fed_compute.ids import ClientId, JobId, TaskId
from fed_compute.rounds.records import Evaluation, Task, TaskKind, TaskState
from fed_compute.storage.sql.journal import Line, task_line
from fed_compute.storage.sql.store import Store


@dataclass(frozen=True, slots=True)
class VersionQuality:
    """One version measured by several clients; means are weighted by samples."""

    version: int
    num_clients: int
    num_samples: int
    loss: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a client measured in a task, handed in at `at`, Unix seconds. `accuracy` is a fraction, or None."""

    client_id: ClientId
    task_id: TaskId
    num_samples: int
    loss: float
    accuracy: float | None
    at: float


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
        answer = self.record_all([Measurement(client_id, task_id, num_samples, loss, accuracy, self._clock.now())])[0]
        if isinstance(answer, FedComputeError):
            raise answer
        return answer

    def record_all(self, measurements: Sequence[Measurement]) -> list[Task | FedComputeError]:
        """Record measurements of different tasks in one transaction, and return the task of each as it is now.

        An error is what `record` raises.
        """
        with self._store.transaction() as records:
            tasks = records.bulk.tasks([one.task_id for one in measurements])
            answers = [_judged(one, tasks.get(one.task_id)) for one in measurements]
            new = [
                (one, answer)
                for one, answer in zip(measurements, answers, strict=True)
                if not isinstance(answer, FedComputeError) and tasks[one.task_id].state is TaskState.LEASED
            ]
            records.evaluations.add_all([_evaluation(one, task) for one, task in new])
            records.journal.append_all([_line(one, task) for one, task in new])
            return answers

    def of_job(self, job_id: JobId) -> dict[int, VersionQuality]:
        """Return the quality of each measured version of a job, by version number."""
        with self._store.snapshot() as records:
            evaluations = records.evaluations.of_job(job_id)
        by_version: dict[int, list[Evaluation]] = {}
        for evaluation in evaluations:
            by_version.setdefault(evaluation.version, []).append(evaluation)
        return {version: quality_of(version, group) for version, group in by_version.items()}


def quality_of(version: int, group: Sequence[Evaluation]) -> VersionQuality:
    """Return what several clients' measurements of one version, at least one, come to."""
    samples = sum(e.num_samples for e in group)
    classified = [(e.accuracy, e.num_samples) for e in group if e.accuracy is not None]
    return VersionQuality(
        version=version,
        num_clients=len(group),
        num_samples=samples,
        loss=sum(e.loss * e.num_samples for e in group) / samples,
        accuracy=sum(a * n for a, n in classified) / sum(n for _, n in classified) if classified else None,
    )


def _judged(measurement: Measurement, task: Task | None) -> Task | FedComputeError:
    """Return a measurement's task as reported, or why the measurement is not taken."""
    if task is None or task.client_id != measurement.client_id or task.kind is not TaskKind.EVALUATE:
        return TaskNotFound(measurement.task_id)
    if task.state is TaskState.LEASED:
        return replace(task, state=TaskState.REPORTED, progress=1.0, ended_at=measurement.at)
    return task if task.state is TaskState.REPORTED else LeaseExpired(task_id=task.task_id)


def _evaluation(measurement: Measurement, task: Task) -> Evaluation:
    return Evaluation(
        task_id=task.task_id,
        job_id=task.job_id,
        version=task.base_version,
        round_id=task.round_id,
        client_id=task.client_id,
        num_samples=measurement.num_samples,
        loss=measurement.loss,
        accuracy=measurement.accuracy,
        recorded_at=measurement.at,
    )


def _line(measurement: Measurement, task: Task) -> Line:
    return task_line(
        "evaluation_recorded",
        task,
        at=measurement.at,
        task=task.kind,
        version=task.base_version,
        num_samples=measurement.num_samples,
        loss=measurement.loss,
        accuracy=measurement.accuracy,
    )
