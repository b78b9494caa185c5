"""One task from its lease to its answer: admit, download, train or measure, send."""

from collections.abc import Callable, Iterator
from functools import partial

from fed_compute.client.answers import is_documented
from fed_compute.client.api import CoordinatorApi
from fed_compute.client.behavior import DroppedOut
from fed_compute.client.between_batches import BetweenBatches
from fed_compute.client.guard import Guard
from fed_compute.client.lease import LeaseKeeper, TaskAborted
from fed_compute.client.outbox import Outbox
from fed_compute.client.patience import Patience
from fed_compute.client.recipes import max_audited_bytes, max_model_bytes, schema_of
from fed_compute.client.spool import WaitingUpdate
from fed_compute.client.surroundings import Surroundings
from fed_compute.client.work import Workbench
from fed_compute.errors import CallRefused, FedComputeError, NotNow, PolicyRefusal, TaskOver
from fed_compute.protocol import tracing
from fed_compute.protocol.messages import TaskAnswer
from fed_compute.protocol.models import decode_model
from fed_compute.protocol.schema import Vector


class Errands:
    """Does tasks, one at a time. Remembers the last model that it downloaded."""

    def __init__(self, api: CoordinatorApi, outbox: Outbox, bench: Workbench, surroundings: Surroundings) -> None:
        self._api = api
        self._outbox = outbox
        self._bench = bench
        self._around = surroundings
        self._model: tuple[str, Vector] | None = None  # the last one, by digest

    def do(self, task: TaskAnswer, patience: Patience, guard: Guard, *, client_id: str) -> bool:
        """Do one task; say whether it was accepted. A lease that is left behind is given back.

        But not that of an update which waits in the spool: the client's next run sends it.

        Raises:
            PolicyRefusal: if the owner's limits forbid it, or to go on with it.
            StateUnusable: if what would leave cannot be written down.
            CallRefused, TrainingDiverged, ModelMalformed, UpdateRefused: if it failed.
            Misuse: if only the owner of this machine can help.
        """
        observer = self._around.observer
        lease = LeaseKeeper(self._api, task, self._around.clock)
        keep_lease = False
        try:
            guard.admit(task, own_samples=self._bench.count_samples(task))
            self._note_received(task)
            with lease:
                vector = self._global_vector(task, patience, lease)
                match task.task:
                    case "train":
                        waiting = self._train(task, vector, patience, lease, guard=guard, client_id=client_id)
                        self._send(waiting, patience)
                    case "evaluate":
                        self._evaluate(task, vector, patience, lease)
                    case "audit":
                        self._audit(task, vector, patience, lease)
            keep_lease = True
            return True
        except (TaskOver, TaskAborted) as error:
            keep_lease = True
            observer.event("task_over", task_id=task.task_id, why=str(error))
        except DroppedOut as error:
            keep_lease = True
            observer.event("dropped_out", task_id=task.task_id, fraction=error.fraction)
            patience.pause(max(0.0, lease.seconds_left()))  # a vanished machine does not ask again at once
        except NotNow as error:
            observer.event("task_over", task_id=task.task_id, why=error.message)
        finally:
            if not keep_lease and not self._outbox.spool.holds(task.task_id):
                self._give_back(task)
        return False

    def waiting(self) -> Iterator[WaitingUpdate]:
        """Yield the updates that an earlier run left in the spool.

        Raises:
            StateUnusable: if they cannot be read.
        """
        return self._outbox.spool.waiting()

    def send_waiting(self, waiting: WaitingUpdate, patience: Patience) -> bool:
        """Send an update that an earlier run left in the spool; say whether it was accepted.

        Raises:
            PolicyRefusal: if the owner's limits forbid it; the lease is given back.
            CallRefused: if it is refused; the lease is given back.
            StateUnusable, Misuse: as `do`. It stays in the spool.
        """
        task, observer = waiting.task, self._around.observer
        observer.event(
            "update_found", task_id=task.task_id, job=task.job, round_id=task.round_id,
            model_version=task.model_version, bytes=len(waiting.body),
        )  # fmt: skip
        try:
            with LeaseKeeper(self._api, task, self._around.clock):
                self._send(waiting, patience)
        except TaskOver as error:
            observer.event("task_over", task_id=task.task_id, why=error.message)
            return False
        except (CallRefused, PolicyRefusal):
            self._give_back(task)
            raise
        return True

    def _note_received(self, task: TaskAnswer) -> None:
        self._around.observer.event(
            "task_received", task_id=task.task_id, task=task.task, job=task.job, round_id=task.round_id,
            model_version=task.model_version, seconds_left=task.seconds_left, soft_seconds_left=task.soft_seconds_left,
        )  # fmt: skip

    def _global_vector(self, task: TaskAnswer, patience: Patience, lease: LeaseKeeper) -> Vector:
        """Return the task's model, shape (P,), downloaded unless it is the last one used."""
        if self._model is not None and self._model[0] == task.model_digest:
            return self._model[1]
        call = partial(
            self._api.download_model, task.model_version, job=task.job, digest=task.model_digest,
            max_bytes=max_model_bytes(task.recipe),
        )  # fmt: skip
        vector = decode_model(_downloaded(call, patience, lease), schema_of(task.recipe))
        vector.setflags(write=False)
        self._model = (task.model_digest, vector)
        return vector

    def _train(
        self,
        task: TaskAnswer,
        vector: Vector,
        patience: Patience,
        lease: LeaseKeeper,
        *,
        guard: Guard,
        client_id: str,
    ) -> WaitingUpdate:
        """Train, and put what came of it into the spool."""
        progress = BetweenBatches(task, patience, lease, guard, self._around)
        try:
            control = self._control(task, patience, lease)
            update = self._bench.train(task, vector, client_id=client_id, progress=progress, control=control)
            result = update.result
            self._around.observer.event(
                "trained", task_id=task.task_id, num_samples=result.num_samples, loss=result.loss,
                seconds=result.seconds, bytes=len(update.body),
            )  # fmt: skip
            return self._outbox.spool.put(task, update)
        finally:
            self._bench.forget_training()  # its update is kept now, or its task is over

    def _control(self, task: TaskAnswer, patience: Patience, lease: LeaseKeeper) -> Vector | None:
        """Return the task's control variate, shape (P,), downloaded; None if it goes without one or it is zero."""
        digest, limit = task.control_digest, max_model_bytes(task.recipe)
        if digest is None:
            return None
        call = partial(self._api.download_of_task, task.task_id, "control", digest=digest, max_bytes=limit)
        return decode_model(_downloaded(call, patience, lease), schema_of(task.recipe))

    def _send(self, waiting: WaitingUpdate, patience: Patience) -> None:
        """Offer an update until there is an answer. It leaves the spool when that is final.

        Raises:
            TaskOver, CallRefused: if that is the answer.
            PolicyRefusal: if today's last update has left already.
            StopAsked, Misuse: if the client has to end before. It stays in the spool.
        """
        task, spool, observer = waiting.task, self._outbox.spool, self._around.observer
        num_bytes = len(waiting.body)
        try:
            send = self._outbox.offer(
                waiting, on_sent=lambda sent: observer.event("uploading", task_id=task.task_id, sent=sent)
            )
            observer.event(
                "sending", task_id=task.task_id, bytes=num_bytes, says=dict(waiting.says), norm=waiting.norm.sent,
                norm_trained=waiting.norm.trained,
            )  # fmt: skip
            with tracing.span("upload", kind="client", attributes={"fed_compute.bytes": num_bytes}):
                answer = patience.until_answered(send)
        except (TaskOver, PolicyRefusal):
            spool.remove(task.task_id)
            raise
        except CallRefused as error:
            if is_documented(error):
                spool.remove(task.task_id)
            else:
                spool.set_aside(task.task_id, why=error.message)
            raise
        self._bench.accepted(task, waiting.left)
        spool.remove(task.task_id)
        observer.event(
            "update_accepted", task_id=task.task_id, round_id=answer.round_id, update_id=answer.update_id,
            loss=waiting.loss, repeated=answer.repeated,
        )  # fmt: skip

    def _evaluate(self, task: TaskAnswer, vector: Vector, patience: Patience, lease: LeaseKeeper) -> None:
        measured = self._bench.evaluate(task, vector)
        patience.until_answered(self._outbox.measurement(task, measured), seconds_left=lease.seconds_left)
        self._around.observer.event(
            "evaluated", task_id=task.task_id, round_id=task.round_id, model_version=task.model_version,
            loss=measured.loss, accuracy=measured.accuracy, num_samples=measured.num_samples,
        )  # fmt: skip

    def _audit(self, task: TaskAnswer, vector: Vector, patience: Patience, lease: LeaseKeeper) -> None:
        """Look at somebody's update. It is held in memory only, and forgotten."""
        limit, digest = max_audited_bytes(task.recipe), task.audited_digest or ""
        call = partial(self._api.download_of_task, task.task_id, "audited", digest=digest, max_bytes=limit)
        body = _downloaded(call, patience, lease)
        measured = self._bench.audit(task, vector, body)
        patience.until_answered(self._outbox.measurement(task, measured), seconds_left=lease.seconds_left)
        self._around.observer.event(
            "audited", task_id=task.task_id, round_id=task.round_id, model_version=task.model_version,
            base_loss=measured.base_loss, loss=measured.loss, num_samples=measured.num_samples,
        )  # fmt: skip

    def _give_back(self, task: TaskAnswer) -> None:
        """Tell the coordinator not to wait for this task. If that fails, the lease ends by itself."""
        try:
            self._api.release_task(task.task_id)
        except FedComputeError as error:
            self._around.observer.event("task_release_failed", task_id=task.task_id, why=error.message)
        else:
            self._around.observer.event("task_released", task_id=task.task_id)


def _downloaded(call: Callable[[], bytes], patience: Patience, lease: LeaseKeeper) -> bytes:
    """Ask until there is an answer, as long as the lease holds."""

    def download() -> bytes:
        lease.check()
        return call()

    return patience.until_answered(download, seconds_left=lease.seconds_left)
