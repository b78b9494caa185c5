"""The client's loop: sign in, ask, do the task, rest."""

import functools
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fed_compute.client.api import CoordinatorApi, Idle
from fed_compute.client.errands import Errands
from fed_compute.client.guard import Guard
from fed_compute.client.patience import Patience, StopAsked
from fed_compute.client.stop_sign import StopSign
from fed_compute.client.surroundings import Surroundings
from fed_compute.errors import (
    CallRefused,
    FedComputeError,
    ModelMalformed,
    PolicyRefusal,
    TrainingDiverged,
    UpdateRefused,
)
from fed_compute.protocol import tracing
from fed_compute.protocol.messages import TaskAnswer

LONG_POLL_SECONDS = 25.0
FAILURES_IN_A_ROW = 5
"""So many tasks in a row that end in a refusal or in divergence stop the client: it is of no use here."""

SHORTEST_REST_SECONDS, LONGEST_REST_SECONDS = 60.0, 3600.0
"""Between these lies the rest after a task that the owner's limits will always forbid; each one doubles it."""

_LOOK_AGAIN_SECONDS = 600.0
"""A wait for midnight or for opening hours looks again this often: clocks are set, and machines sleep."""

_LOOK_AT_WISH_SECONDS = 5.0
"""A rest looks this often whether the owner wants the client to finish."""

_FAILURES = (CallRefused, TrainingDiverged, ModelMalformed, UpdateRefused)


def rest_seconds(refusals: int) -> float:
    """Return the rest after so many forbidden tasks in a row, from 1: a minute, doubling up to an hour."""
    return min(SHORTEST_REST_SECONDS * 2.0 ** min(refusals - 1, 30), LONGEST_REST_SECONDS)


class Client:
    """One volunteer at one coordinator."""

    def __init__(
        self,
        api: CoordinatorApi,
        errands: Errands,
        guard: Guard,
        surroundings: Surroundings,
        *,
        sign_in: Callable[[], str],
        sign_out: Callable[[], None],
    ) -> None:
        self._api = api
        self._errands = errands
        self._guard = guard
        self._around = surroundings
        self._sign_in = sign_in
        self._sign_out = sign_out
        self._polling = False
        self._rest = 0.0
        self._asked: str | None = None

    def run(self, *, stop: StopSign | None = None, max_tasks: int | None = None, until_finished: bool = False) -> int:
        """Serve until asked to stop; return the number of tasks that the coordinator accepted.

        What an earlier run finished and could not send is sent first. Ends after `max_tasks` tasks,
        whatever became of them, when the owner wants it to finish, or with `until_finished` when the
        coordinator says that its job is finished. A coordinator that goes away is waited for, any time
        long, and so are the owner's hours, power supply and next day, and the end of a pause; nothing
        is asked for meanwhile. A task that the owner's limits will always forbid is given back and
        followed by a rest of a minute, doubling up to an hour; with `until_finished` it ends the
        client, since the job would be waited for in vain. When asked to stop, the lease is given back
        first, unless the task's update is finished: that one is sent at the next start.

        Raises:
            ClientMustAct, Misuse: if only the owner of this machine can help.
            PolicyRefusal: with `until_finished`, if the owner's limits forbid this job.
            CallRefused, TrainingDiverged, ModelMalformed, UpdateRefused: after `FAILURES_IN_A_ROW` failed tasks.
        """
        around = self._around
        patience = Patience(around.clock, around.observer, stop=stop or StopSign(), backoff=self._api.backoff)
        accepted, failures, refusals = 0, 0, 0
        try:
            patience.pause(around.behavior.decide_startup(around.rng))
            client_id = patience.until_answered(self._sign_in)
            around.observer.event("signed_in", client_id=client_id)
            accepted += self._send_waiting(patience)
            for task in self._tasks(client_id, patience, max_tasks=max_tasks, until_finished=until_finished):
                self._rest = 0.0
                try:
                    with tracing.span("task", parent=self._asked, attributes=_told(task)):
                        accepted += self._errands.do(task, patience, self._guard, client_id=client_id)
                    failures, refusals = 0, 0
                except PolicyRefusal as error:
                    refusals += error.wait_seconds is None and task.task == "train"
                    self._note_refusal(task, error, refusals, until_finished=until_finished)
                except _FAILURES as error:
                    failures += 1
                    self._note_failure(task, error)
                    if failures >= FAILURES_IN_A_ROW:
                        raise
        except StopAsked:
            around.observer.event("stopped", tasks_accepted=accepted)
        return accepted

    def interrupt(self, stop: StopSign) -> None:
        """Set `stop`, for a signal handler: also ends a long poll at once, since no lease is held then."""
        stop.set()
        if self._polling:
            self._polling = False
            raise StopAsked("a signal arrived")

    def close(self) -> None:
        """Close all connections and let go of the client's name; it is then of no more use."""
        self._api.close()
        self._sign_out()

    def _send_waiting(self, patience: Patience) -> int:
        """Send what an earlier run left; return how many the coordinator accepted."""
        accepted = 0
        for waiting in self._errands.waiting():
            try:
                accepted += self._errands.send_waiting(waiting, patience)
            except PolicyRefusal as error:
                self._note_refusal(waiting.task, error, 0, until_finished=False)
            except CallRefused as error:
                self._note_failure(waiting.task, error)
        return accepted

    def _tasks(
        self, client_id: str, patience: Patience, *, max_tasks: int | None, until_finished: bool
    ) -> Iterator[TaskAnswer]:
        """Give one task after another, of the jobs that the owner named in turn, with a rest after each."""
        around = self._around
        wanted: list[str | None] = [*sorted(self._guard.policy.jobs)] or [None]
        count, turn, finished = 0, 0, set[str | None]()
        while max_tasks is None or count < max_tasks:
            if not self._wait_until_allowed(patience):
                around.observer.event("finished")
                return
            job, turn = wanted[turn % len(wanted)], turn + 1
            poll = functools.partial(self._poll, client_id, job, wait_seconds=LONG_POLL_SECONDS / len(wanted))
            match patience.until_answered(poll):
                case None:
                    continue
                case Idle(reason="job_finished") if until_finished and finished | {job} == set(wanted):
                    around.observer.event("job_finished")
                    return
                case Idle(reason=reason) as idle:
                    finished = finished | {job} if reason == "job_finished" else finished - {job}
                    around.observer.event("idle", why=reason)
                    seconds = idle.draw_seconds(around.rng, otherwise=around.sleep_between_rounds)
                    self._rest_for(seconds / len(wanted), patience)
                case TaskAnswer() as task:
                    count += 1
                    finished.clear()
                    yield task
                    if max_tasks is None or count < max_tasks:
                        self._rest_for(max(around.sleep_between_rounds, self._rest), patience)

    def _poll(self, client_id: str, job: str | None, *, wait_seconds: float) -> TaskAnswer | Idle | None:
        """Ask for a task, or return None if the owner's wish or limits came between the tries."""
        if self._guard.is_finishing() or self._guard.objection() is not None:
            return None
        self._polling = True
        try:
            policy = self._guard.policy
            with tracing.span("fetch task", kind="client") as step:
                found = self._api.next_task(
                    client_id, wait_seconds=wait_seconds, job=job, evaluates=policy.evaluate, audits=policy.audits
                )
                self._asked = tracing.current()
                if isinstance(found, Idle):
                    step.discard()
            return found
        finally:
            self._polling = False

    def _wait_until_allowed(self, patience: Patience) -> bool:
        """Wait, without a word to the coordinator, while a pause, hours, power or today's number forbid to work.

        Say whether to go on; not if the owner wants the client to finish.
        """
        said = None
        while (objection := self._guard.objection()) is not None and not self._guard.is_finishing():
            if objection.setting != said:
                said = objection.setting
                self._around.observer.event("resting", limit=said, why=objection.reason)
            self._rest_for(min(objection.wait_seconds or _LOOK_AGAIN_SECONDS, _LOOK_AGAIN_SECONDS), patience)
        return not self._guard.is_finishing()

    def _rest_for(self, seconds: float, patience: Patience) -> None:
        """Rest, but not longer than until the owner wants the client to finish."""
        clock = self._around.clock
        end = clock.monotonic() + seconds
        patience.check()
        while (left := end - clock.monotonic()) > 0 and not self._guard.is_finishing():
            patience.pause(min(left, _LOOK_AT_WISH_SECONDS))

    def _note_refusal(self, task: TaskAnswer, error: PolicyRefusal, refusals: int, *, until_finished: bool) -> None:
        """Say why in one line; rest, or end, if the same would happen with this job's next task."""
        lasting = error.wait_seconds is None and task.task == "train"
        self._rest = rest_seconds(refusals) if lasting and not until_finished else 0.0
        self._around.observer.event(
            "policy_refused", task_id=task.task_id, job=task.job, limit=error.setting, why=error.message,
            rest=self._rest,
        )  # fmt: skip
        if lasting and until_finished:
            raise error

    def _note_failure(self, task: TaskAnswer, error: FedComputeError) -> None:
        name = "update_refused" if isinstance(error, CallRefused) else "training_failed"
        name = name if task.task == "train" else "measuring_failed"
        self._around.observer.event(
            name, task_id=task.task_id, code=error.details.get("answered", error.code), why=error.message
        )


def _told(task: TaskAnswer) -> dict[str, tracing.Value]:
    """Return what is told of a task in a trace."""
    return {
        "fed_compute.job": task.job,
        "fed_compute.round_id": task.round_id,
        "fed_compute.task_id": task.task_id,
        "fed_compute.task": task.task,
        "fed_compute.model_version": task.model_version,
    }


@contextmanager
def stop_on_signals(client: Client, stop: StopSign) -> Iterator[None]:
    """While the block runs, SIGTERM and SIGINT ask the client to stop. Only for the main thread."""
    previous = {
        number: signal.signal(number, lambda *_: client.interrupt(stop)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
