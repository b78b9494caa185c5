"""One task from its lease to its answer: admit, download, train or measure, send."""

from collections.abc import Callable

from fed_compute.client.api import CoordinatorApi
from fed_compute.client.behavior import DroppedOut
from fed_compute.client.guard import Guard
from fed_compute.client.lease import LeaseKeeper, TaskAborted
from fed_compute.client.outbox import Outbox
from fed_compute.client.patience import Patience
from fed_compute.client.recipes import max_audited_bytes, max_model_bytes, schema_of
from fed_compute.client.surroundings import Surroundings
from fed_compute.client.work import Workbench
from fed_compute.errors import FedComputeError, NotNow, TaskOver
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
                        self._train(task, vector, patience, lease, guard=guard, client_id=client_id)
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
            if not keep_lease:
                self._give_back(task)
        return False

    def _note_received(self, task: TaskAnswer) -> None:
        self._around.observer.event(
            "task_received", task_id=task.task_id, task=task.task, job=task.job, round_id=task.round_id,
            model_version=task.model_version, seconds_left=task.seconds_left, soft_seconds_left=task.soft_seconds_left,
        )  # fmt: skip

    def _global_vector(self, task: TaskAnswer, patience: Patience, lease: LeaseKeeper) -> Vector:
        """Return the task's model, shape (P,), downloaded unless it is the last one used."""
        if self._model is not None and self._model[0] == task.model_digest:
            return self._model[1]
        schema, limit = schema_of(task.recipe), max_model_bytes(task.recipe)

        def download() -> bytes:
            lease.check()
            return self._api.download_model(task.model_version, job=task.job, digest=task.model_digest, max_bytes=limit)

        vector = decode_model(patience.until_answered(download, seconds_left=lease.seconds_left), schema)
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
    ) -> None:
        """Train, then offer the update until there is an answer; it stays in memory until then."""
        progress = self._progress(task, patience, lease, guard.watch())
        update = self._bench.train(task, vector, client_id=client_id, progress=progress)
        observer, result = self._around.observer, update.result
        observer.event(
            "trained", task_id=task.task_id, num_samples=result.num_samples, loss=result.loss, seconds=result.seconds,
            bytes=len(update.body),
        )  # fmt: skip
        send = self._outbox.update(task, update)
        observer.event(
            "sending", task_id=task.task_id, bytes=len(update.body), says=dict(update.says), norm=update.norm.sent,
            norm_trained=update.norm.trained,
        )  # fmt: skip
        answer = patience.until_answered(send, seconds_left=lease.seconds_left)
        self._bench.accepted(task.job, update)
        observer.event(
            "update_accepted", task_id=task.task_id, round_id=answer.round_id, update_id=answer.update_id,
            loss=result.loss, repeated=answer.repeated,
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

        def download() -> bytes:
            lease.check()
            return self._api.download_audited(task.task_id, digest=digest, max_bytes=limit)

        body = patience.until_answered(download, seconds_left=lease.seconds_left)
        measured = self._bench.audit(task, vector, body)
        patience.until_answered(self._outbox.measurement(task, measured), seconds_left=lease.seconds_left)
        self._around.observer.event(
            "audited", task_id=task.task_id, round_id=task.round_id, model_version=task.model_version,
            base_loss=measured.base_loss, loss=measured.loss, num_samples=measured.num_samples,
        )  # fmt: skip

    def _progress(
        self, task: TaskAnswer, patience: Patience, lease: LeaseKeeper, look: Callable[[], None]
    ) -> Callable[[float], None]:
        """Return what runs after each batch: simulated slowness and dropout, heartbeat, limits, the wish to stop."""
        around, behavior = self._around, self._around.behavior
        drop_at = behavior.decide_dropout(around.rng)
        last = around.clock.monotonic()

        def progress(fraction: float) -> None:
            nonlocal last
            patience.pause(behavior.decide_stretch(around.clock.monotonic() - last))
            last = around.clock.monotonic()
            lease.report(fraction)
            look()
            around.observer.event("progress", task_id=task.task_id, fraction=fraction)
            if drop_at is not None and fraction >= drop_at:
                raise DroppedOut(fraction=fraction)

        return progress

    def _give_back(self, task: TaskAnswer) -> None:
        """Tell the coordinator not to wait for this task. If that fails, the lease ends by itself."""
        try:
            self._api.release_task(task.task_id)
        except FedComputeError as error:
            self._around.observer.event("task_release_failed", task_id=task.task_id, why=error.message)
        else:
            self._around.observer.event("task_released", task_id=task.task_id)
