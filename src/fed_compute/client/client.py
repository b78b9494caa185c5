"""The client's loop: sign in, ask, download, train or evaluate, send, rest."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from fed_compute.client.api import CoordinatorApi, Idle
from fed_compute.client.behavior import Behavior, DroppedOut
from fed_compute.client.lease import LeaseKeeper, TaskAborted
from fed_compute.client.observer import ClientObserver
from fed_compute.client.patience import Patience, StopAsked
from fed_compute.client.recipes import max_model_bytes, schema_of
from fed_compute.client.work import Workbench
from fed_compute.clock import Clock
from fed_compute.errors import CallRefused, FedComputeError, ModelMalformed, NotNow, TaskOver, TrainingDiverged
from fed_compute.protocol.messages import TaskAnswer
from fed_compute.protocol.models import decode_model
from fed_compute.protocol.schema import Vector

LONG_POLL_SECONDS = 25.0
FAILURES_IN_A_ROW = 5
"""So many tasks in a row that end in a refusal or in divergence stop the client: it is of no use here."""

_FAILURES = (CallRefused, TrainingDiverged, ModelMalformed)


@dataclass(frozen=True)
class Surroundings:
    """What a client stands in: its clock, who watches, how it misbehaves, its chance, its pace in seconds."""

    clock: Clock
    observer: ClientObserver
    rng: np.random.Generator
    behavior: Behavior = field(default_factory=Behavior)
    sleep_between_rounds: float = 5.0
    retry_delay: float = 2.0


class Client:
    """One volunteer at one coordinator."""

    def __init__(
        self, api: CoordinatorApi, bench: Workbench, surroundings: Surroundings, sign_in: Callable[[], str]
    ) -> None:
        self._api = api
        self._bench = bench
        self._around = surroundings
        self._sign_in = sign_in
        self._client_id = ""
        self._model: tuple[str, Vector] | None = None  # the last one, by digest
        self._polling = False

    def run(
        self, *, stop: threading.Event | None = None, max_tasks: int | None = None, until_finished: bool = False
    ) -> int:
        """Serve until asked to stop; return the number of tasks that the coordinator accepted.

        Ends after `max_tasks` tasks, whatever became of them, or with `until_finished` when the
        coordinator says that its job is finished. A coordinator that goes away is waited for, any
        time long. When asked to stop, the lease is given back first.

        Raises:
            ClientMustAct, Misuse: if only the owner of this machine can help.
            CallRefused, TrainingDiverged, ModelMalformed: after `FAILURES_IN_A_ROW` failed tasks.
        """
        around = self._around
        patience = Patience(
            around.clock,
            around.observer,
            stop=stop or threading.Event(),
            base=around.retry_delay,
            rng=around.rng,
        )
        accepted, failures = 0, 0
        try:
            for task in self._tasks(patience, max_tasks=max_tasks, until_finished=until_finished):
                try:
                    accepted += self._serve(task, patience)
                    failures = 0
                except _FAILURES as error:
                    failures += 1
                    self._note_failure(task, error)
                    if failures >= FAILURES_IN_A_ROW:
                        raise
        except StopAsked:
            around.observer.event("stopped", tasks_accepted=accepted)
        return accepted

    def interrupt(self, stop: threading.Event) -> None:
        """Set `stop`, for a signal handler: also ends a long poll at once, since no lease is held then."""
        stop.set()
        if self._polling:
            self._polling = False
            raise StopAsked("a signal arrived")

    def _tasks(self, patience: Patience, *, max_tasks: int | None, until_finished: bool) -> Iterator[TaskAnswer]:
        """Sign in, then give one task after another, with a rest after each."""
        around = self._around
        patience.pause(around.behavior.decide_startup(around.rng))
        self._client_id = patience.until_answered(self._sign_in)
        around.observer.event("signed_in", client_id=self._client_id)
        count = 0
        while max_tasks is None or count < max_tasks:
            match patience.until_answered(self._poll):
                case Idle(reason="job_finished") if until_finished:
                    around.observer.event("job_finished")
                    return
                case Idle(retry_after_seconds, reason):
                    around.observer.event("idle", why=reason)
                    rest = around.sleep_between_rounds if retry_after_seconds is None else retry_after_seconds
                    patience.pause(rest)
                case TaskAnswer() as task:
                    count += 1
                    yield task
                    if max_tasks is None or count < max_tasks:
                        patience.pause(around.sleep_between_rounds)

    def _poll(self) -> TaskAnswer | Idle:
        self._polling = True
        try:
            return self._api.next_task(self._client_id, wait_seconds=LONG_POLL_SECONDS)
        finally:
            self._polling = False

    def _serve(self, task: TaskAnswer, patience: Patience) -> bool:
        """Do one task; say whether it was accepted. A lease that is left behind is given back."""
        observer = self._around.observer
        observer.event(
            "task_received", task_id=task.task_id, task=task.task, job=task.job, round_id=task.round_id,
            model_version=task.model_version, seconds_left=task.seconds_left,
        )  # fmt: skip
        lease = LeaseKeeper(self._api, task, self._around.clock)
        keep_lease = False
        try:
            with lease:
                vector = self._global_vector(task, patience, lease)
                act = self._train if task.task == "train" else self._evaluate
                act(task, vector, patience, lease)
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

    def _train(self, task: TaskAnswer, vector: Vector, patience: Patience, lease: LeaseKeeper) -> None:
        """Train, then offer the update until there is an answer; it stays in memory until then."""
        update = self._bench.train(
            task, vector, client_id=self._client_id, progress=self._progress(task, patience, lease)
        )
        observer = self._around.observer
        observer.event(
            "trained", task_id=task.task_id, num_samples=update.result.num_samples, loss=update.result.loss,
            seconds=update.result.seconds, bytes=len(update.body),
        )  # fmt: skip
        answer = patience.until_answered(
            lambda: self._api.submit_update(task.task_id, update.body, update.content_type),
            seconds_left=lease.seconds_left,
        )
        self._bench.accepted(task.job, update)
        observer.event(
            "update_accepted", task_id=task.task_id, round_id=answer.round_id, update_id=answer.update_id,
            loss=update.result.loss, repeated=answer.repeated,
        )  # fmt: skip

    def _evaluate(self, task: TaskAnswer, vector: Vector, patience: Patience, lease: LeaseKeeper) -> None:
        measured = self._bench.evaluate(task, vector)
        patience.until_answered(
            lambda: self._api.submit_evaluation(task.task_id, measured), seconds_left=lease.seconds_left
        )
        self._around.observer.event(
            "evaluated", task_id=task.task_id, round_id=task.round_id, model_version=task.model_version,
            loss=measured.loss, accuracy=measured.accuracy, num_samples=measured.num_samples,
        )  # fmt: skip

    def _progress(self, task: TaskAnswer, patience: Patience, lease: LeaseKeeper) -> Callable[[float], None]:
        """Return what runs after each batch: simulated slowness and dropout, heartbeat, and the wish to stop."""
        around, behavior = self._around, self._around.behavior
        drop_at = behavior.decide_dropout(around.rng)
        last = around.clock.monotonic()

        def progress(fraction: float) -> None:
            nonlocal last
            patience.pause(behavior.decide_stretch(around.clock.monotonic() - last))
            last = around.clock.monotonic()
            lease.report(fraction)
            around.observer.event("progress", task_id=task.task_id, fraction=fraction)
            if drop_at is not None and fraction >= drop_at:
                raise DroppedOut(fraction=fraction)

        return progress

    def _note_failure(self, task: TaskAnswer, error: FedComputeError) -> None:
        name = "update_refused" if isinstance(error, CallRefused) else "training_failed"
        self._around.observer.event(
            name, task_id=task.task_id, code=error.details.get("answered", error.code), why=error.message
        )

    def _give_back(self, task: TaskAnswer) -> None:
        """Tell the coordinator not to wait for this task. If that fails, the lease ends by itself."""
        try:
            self._api.release_task(task.task_id)
        except FedComputeError as error:
            self._around.observer.event("task_release_failed", task_id=task.task_id, why=error.message)
        else:
            self._around.observer.event("task_released", task_id=task.task_id)


@contextmanager
def stop_on_signals(client: Client, stop: threading.Event) -> Iterator[None]:
    """While the block runs, SIGTERM and SIGINT ask the client to stop. Only for the main thread."""
    previous = {
        number: signal.signal(number, lambda *_: client.interrupt(stop)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
