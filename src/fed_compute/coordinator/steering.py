"""Jobs in an operator's hands: pause, resume, stop."""

from dataclasses import replace

from fed_compute.clock import Clock
from fed_compute.coordinator.round_manager import RoundManager
from fed_compute.coordinator.task_assigner import TaskAssigner
from fed_compute.errors import JobNotFound, JobOver
from fed_compute.rounds.records import Job
from fed_compute.rounds.steering import Act, steered, told_to_round
from fed_compute.storage.sql.store import Store


class JobSteering:
    """Turns an operator's word into one transaction: the job, its live round, its leases, one line of the journal.

    A process that dies before the commit has changed nothing. Every act may be repeated, and changes nothing then.
    """

    def __init__(self, store: Store, rounds: RoundManager, tasks: TaskAssigner, clock: Clock) -> None:
        self._store = store
        self._rounds = rounds
        self._tasks = tasks
        self._clock = clock

    def pause(self, name: str, *, by: str) -> Job:
        """Hand out no more work of a job until it is resumed. Work in progress may still be delivered and counts.

        The live round's deadline stands still, so no pause is too long for it; a round that gets all the
        updates it wants is closed, and the next one waits. Leases go on as long as heartbeats come.

        Raises:
            JobNotFound: if there is no such job.
            JobOver: if it has finished or was stopped.
        """
        return self._steer(name, Act.PAUSE, by=by)

    def resume(self, name: str, *, by: str) -> Job:
        """Go on with a paused job: its round has as much time left as it had when the job was paused.

        Raises:
            JobNotFound: if there is no such job.
            JobOver: if it has finished or was stopped.
        """
        return self._steer(name, Act.RESUME, by=by)

    def stop(self, name: str, *, by: str) -> Job:
        """End a job for good. Its live round is given up, its leases end as nobody's failure; its versions stay.

        Raises:
            JobNotFound: if there is no such job.
            JobOver: if it has finished.
        """
        return self._steer(name, Act.STOP, by=by)

    def _steer(self, name: str, act: Act, *, by: str) -> Job:
        with self._store.transaction() as records:
            job = records.jobs.named(name)
            if job is None:
                raise JobNotFound(name)
            state = steered(job.state, act)
            if state is None:
                raise JobOver(name, state=job.state, want=act)
            if state is job.state:
                return job
            job = replace(job, state=state)
            records.jobs.set_state(job.job_id, state)
            records.journal.append(f"job_{act}", at=self._clock.now(), job_id=job.job_id, name=name, by=by)
            if (live := records.rounds.live(job.job_id)) is not None:
                self._rounds.apply(records, live, told_to_round(act))
            self._tasks.extend_leases(records, job)
            return job
