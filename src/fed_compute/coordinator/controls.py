"""The control variate that a training goes with, as a file for the client that holds the task."""

import threading

from fed_compute.coordinator.folding import control_in
from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.task_assigner import Assignment, own_task
from fed_compute.errors import LeaseExpired, TaskNotFound
from fed_compute.ids import ClientId, Digest, JobId, TaskId
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.models import encode_model
from fed_compute.rounds.records import Job, TaskKind, TaskState, Version
from fed_compute.storage.model_store import ModelStore
from fed_compute.storage.sql.store import Store

KNOWN_DIGESTS = 64
"""Of so many state files the digest of the control variate is remembered."""


class ControlDesk:
    """Hands out what lies in a version's state file: a control variate, in the form of a model file.

    Cost: a state file is read and the control variate hashed once per version; then it is a look at a table.
    """

    def __init__(self, store: Store, models: ModelStore) -> None:
        self._store = store
        self._models = models
        self._digests: dict[tuple[JobId, Digest], Digest | None] = {}
        self._lock = threading.Lock()

    def digest(self, assignment: Assignment) -> Digest | None:
        """Return what the task's control variate hashes to; None if it is zero, or the task goes without one.

        Raises:
            BlobMissing, BlobCorrupt: if the version's state is damaged.
        """
        state, job = assignment.version.optimizer_digest, assignment.job
        if state is None or assignment.task.kind is not TaskKind.TRAIN or spec_of(job).training.control_variates == 0:
            return None
        known_as = job.job_id, state
        with self._lock:
            if known_as not in self._digests:
                body = self._file(job, assignment.version)
                while len(self._digests) >= KNOWN_DIGESTS:
                    del self._digests[next(iter(self._digests))]
                self._digests[known_as] = None if body is None else Digest(sha256_hex(body))
            return self._digests[known_as]

    def file(self, client_id: ClientId, task_id: TaskId) -> bytes:
        """Return the control variate of a client's own training.

        Raises:
            TaskNotFound: if the client has no such task, or the task goes without one.
            LeaseExpired: if its lease has ended.
            BlobMissing, BlobCorrupt: if the version's state is damaged.
        """
        with self._store.snapshot() as records:
            task = own_task(records, client_id, task_id)
            job, version = records.jobs.get(task.job_id), records.versions.get(task.job_id, task.base_version)
        body = self._file(job, version) if task.kind is TaskKind.TRAIN else None
        if body is None:
            raise TaskNotFound(task_id)
        if task.state is not TaskState.LEASED:
            raise LeaseExpired(task_id=task_id)
        return body

    def _file(self, job: Job, version: Version) -> bytes | None:
        state = None if version.optimizer_digest is None else self._models.get(version.optimizer_digest)
        control = control_in(state, job)
        return None if control is None else encode_model(control, schema_of(job))
