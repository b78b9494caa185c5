"""The seed's six checks of an update, cheapest first, failing closed.

1. authentication: the key is valid and its owner's
2. registration: its owner is a registered client
3. round: the client holds a task in this round, and the round still collects
4. rate: the client is within its limits
5. format: the body is exactly what the recipe asks for
6. values: every number is finite and the whole is not longer than an honest update can be

Checks 1 to 4 need no body and run before one is read; 5 and 6 look into it.
"""

from dataclasses import dataclass

from fed_compute.coordinator.auth import AuthManager
from fed_compute.coordinator.rate_limiter import RateLimiter
from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.errors import ClientNotFound, LeaseExpired, NotAssigned, RoundNotFound, RoundOver, TaskNotFound
from fed_compute.ids import ClientId, RoundId, TaskId
from fed_compute.learning.privacy.protector import PrivacyProtector
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import DecodedUpdate, decode_update
from fed_compute.rounds.records import Job, Round, RoundState, Task, TaskKind, TaskState
from fed_compute.storage.sql.store import Records, Store


@dataclass(frozen=True, slots=True)
class Admission:
    """A client may send the update of this task. A task that has one already is told apart by digest."""

    task: Task
    job: Job


class UpdateValidator:
    """Runs the six checks. Writes nothing."""

    def __init__(
        self, store: Store, auth: AuthManager, rate_limiter: RateLimiter, *, max_update_norm: float | None
    ) -> None:
        self._store = store
        self._auth = auth
        self._rate_limiter = rate_limiter
        self._max_update_norm = max_update_norm

    def admit_by_task(self, key: str | None, task_id: TaskId) -> Admission:
        """Run checks 1 to 4 for an update that names its task.

        Raises:
            AuthenticationFailed, ClientNotFound, TaskNotFound, RoundOver, LeaseExpired, RateLimited.
        """
        client_id = self._registered(self._auth.authenticate(key).client_id)
        with self._store.snapshot() as records:
            task = records.tasks.find(task_id)
            if task is None or task.client_id != client_id or task.kind is not TaskKind.TRAIN:
                raise TaskNotFound(task_id)
            return self._admit(records, task)

    def admit_by_round(self, key: str | None, client_id: str, round_id: RoundId) -> Admission:
        """Run checks 1 to 4 for an update that names its client and round, as the seed's do.

        Raises:
            AuthenticationFailed, ClientNotFound, RoundNotFound, NotAssigned, RoundOver, LeaseExpired, RateLimited.
        """
        owner = self._registered(self._auth.require_client(key, client_id))
        with self._store.snapshot() as records:
            if records.rounds.find(round_id) is None:
                raise RoundNotFound(round_id)
            tasks = records.tasks.of_client_in_round(owner, round_id, TaskKind.TRAIN)
            if not tasks:
                raise NotAssigned(client_id=owner, round_id=round_id)
            # The newest by the clock, which may have been set back, is not always the one in hand.
            in_hand = (task for task in tasks if task.state in (TaskState.LEASED, TaskState.REPORTED))
            return self._admit(records, next(in_hand, tasks[0]))

    def decode(self, admission: Admission, body: bytes | memoryview) -> DecodedUpdate:
        """Run check 5 on a binary body.

        Raises:
            UpdateRefused: the subclass says what was found and what was wanted.
        """
        spec, schema = spec_of(admission.job), schema_of(admission.job)
        return decode_update(
            body,
            num_parameters=schema.num_parameters,
            schema_digest=schema.digest(),
            encoding=spec.wire.encoding,
            compression=spec.wire.compression,
            topk_fraction=spec.wire.topk_fraction,
        )

    def check_values(self, admission: Admission, delta: Vector) -> float:
        """Run check 6 on an update, float32 (P,); return its L2 norm.

        Raises:
            UpdateNotFinite, UpdateNormTooLarge.
        """
        limit = spec_of(admission.job).privacy.max_update_norm or self._max_update_norm
        return PrivacyProtector(max_norm=limit).check(delta)

    def _registered(self, client_id: ClientId | None) -> ClientId:
        if client_id is None:
            raise ClientNotFound("operator")
        with self._store.snapshot() as records:
            if records.clients.find(client_id) is None:
                raise ClientNotFound(client_id)
        return client_id

    def _admit(self, records: Records, task: Task) -> Admission:
        round_ = records.rounds.get(task.round_id)
        require_open(task, round_)
        self._rate_limiter.update(task.client_id)
        return Admission(task, records.jobs.get(task.job_id))


def require_open(task: Task, round_: Round) -> None:
    """Check that an update of `task` can still be counted. A task already reported passes.

    Raises:
        RoundOver: if the round has ended or is being aggregated.
        LeaseExpired: if the lease has ended while the round goes on.
    """
    if task.state is TaskState.REPORTED:
        return
    if round_.state not in (RoundState.OPEN, RoundState.COLLECTING):
        raise RoundOver(round_id=round_.round_id, state=round_.state)
    if task.state is not TaskState.LEASED:
        raise LeaseExpired(task_id=task.task_id)
