"""Moves rounds forward. Decides nothing itself: `rounds.machine.step` does."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from fed_compute.clock import Clock
from fed_compute.coordinator.recent_rounds import RecentRounds
from fed_compute.coordinator.recipes import spec_of
from fed_compute.errors import Broken, RoundNotClosed, RoundNotFound
from fed_compute.ids import RoundId
from fed_compute.protocol.job import JobSpec, RoundsSection
from fed_compute.rounds.leases import LEAST_OF_JOB, soft_seconds
from fed_compute.rounds.machine import (
    NO_PROGRESS,
    CloseRequested,
    Looked,
    Progress,
    RoundEvent,
    depends_on_progress,
    step,
)
from fed_compute.rounds.records import (
    Job,
    JobState,
    Round,
    RoundMode,
    RoundState,
    Task,
    TaskState,
)
from fed_compute.rounds.selection import may_start, slots_for
from fed_compute.rounds.staleness import LEASES_PER_UPDATE, default_max_staleness
from fed_compute.storage.sql.journal import task_line
from fed_compute.storage.sql.store import Records, Store


class RoundManager:
    """Loads a round, asks the round machine, and stores state and journal in the caller's transaction."""

    def __init__(
        self, store: Store, clock: Clock, *, active_seconds: float, served_as: Callable[[JobSpec], JobSpec]
    ) -> None:
        self._store = store
        self._clock = clock
        self._active_seconds = active_seconds
        self._served_as = served_as  # what this process's settings make of a job's recipe
        self._recent = RecentRounds()

    def now(self) -> float:
        """Return the present by the clock that rounds are timed with, as Unix seconds."""
        return self._clock.now()

    def apply(self, records: Records, before: Round, event: RoundEvent, *, counted: Progress | None = None) -> Round:
        """Apply one event to a round that was read for update, with everything that follows from its new state.

        `counted` is what the caller knows of the round's updates and leases, with nobody awaited.
        """
        after = self._step(records, before, event, counted)
        if after != before:
            records.rounds.put(after)
        if after.state is not before.state:
            self._follow(records, after)
        return after

    def open_next(self, records: Records, job: Job) -> Round | None:
        """Open the job's next round, or finish the job if it has had all its rounds. A stopped job has no next one."""
        if job.state is JobState.STOPPED:
            return None
        spec, now = self._served_as(spec_of(job)), self._clock.now()
        closed = records.rounds.count_closed(job.job_id)
        if closed >= spec.rounds.total:
            records.jobs.set_state(job.job_id, JobState.FINISHED)
            records.journal.append("job_finished", at=now, job_id=job.job_id, rounds=closed)
            return None
        slots, max_staleness = self._width(records, job, spec.rounds)
        round_ = records.rounds.add(
            Round(
                round_id=RoundId(0),
                job_id=job.job_id,
                number=closed + 1,
                base_version=records.versions.latest(job.job_id).version,
                state=RoundState.OPEN,
                mode=RoundMode(spec.rounds.mode),
                target_updates=spec.rounds.target_updates,
                min_updates=spec.rounds.min_updates,
                slots=slots,
                deadline_seconds=spec.rounds.deadline_seconds,
                opened_at=now,
                max_staleness=max_staleness,
                left_seconds=spec.rounds.deadline_seconds if job.state is JobState.PAUSED else None,
                soft_seconds=soft_seconds(self._recent.seconds(records, job.job_id), least=LEAST_OF_JOB),
            )
        )
        records.journal.append(
            "round_opened",
            at=now,
            job_id=job.job_id,
            round_id=round_.round_id,
            number=round_.number,
            base_version=round_.base_version,
            mode=round_.mode,
        )
        return round_

    def begins_to_gather(self, records: Records, round_: Round, job: Job) -> bool:
        """Note, if so, that somebody first asked for work of a round which waits for more clients to be there."""
        if round_.gathering_since is not None or not self._is_gathering(records, round_, job, waited_seconds=0.0):
            return False
        records.rounds.put(replace(round_, gathering_since=self._clock.now()))
        self._note(records, "round_gathering", round_)
        return True

    def goes_on_gathering(self, records: Records, round_: Round, job: Job) -> bool:
        """Say whether a round that began to wait for more clients still does."""
        if round_.gathering_since is None:
            return False
        waited_seconds = self._clock.now() - round_.gathering_since
        return self._is_gathering(records, round_, job, waited_seconds=waited_seconds)

    def request_close(self, round_id: RoundId) -> Round:
        """Close a collecting round early, on an operator's word. One that is over stays as it is.

        Raises:
            RoundNotFound: if there is no such round.
            RoundNotClosed: if it is open still, or has fewer updates than its minimum.
        """
        with self._store.transaction() as records:
            if records.rounds.find(round_id) is None:
                raise RoundNotFound(round_id)
            before = records.rounds.get(round_id, for_update=True)
            after = self.apply(records, before, CloseRequested())
            if after.state in (RoundState.OPEN, RoundState.COLLECTING):
                raise not_closed(records, after)
            if after != before:
                records.journal.append(
                    "round_close_requested", at=self._clock.now(), job_id=after.job_id, round_id=round_id
                )
        return after

    def look_at_all(self) -> bool:
        """Look at every collecting round that may close or be given up by now. Say whether one moved."""
        with self._store.snapshot() as records:
            due = [
                round_.round_id
                for round_ in records.rounds.in_states([RoundState.COLLECTING])
                if self._step(records, round_, Looked()) != round_
            ]
        for round_id in due:
            with self._store.transaction() as records:
                self.apply(records, records.rounds.get(round_id, for_update=True), Looked())
        return bool(due)

    def _is_gathering(self, records: Records, round_: Round, job: Job, *, waited_seconds: float) -> bool:
        rules = spec_of(job).rounds
        if round_.state is not RoundState.OPEN or rules.start_fraction == 0:
            return False
        return not may_start(
            records.clients.count(seen_since=self._clock.now() - self._active_seconds),
            target_updates=round_.target_updates,
            start_fraction=rules.start_fraction,
            waited_seconds=waited_seconds,
            start_wait_seconds=rules.start_wait_seconds,
        )

    def _step(self, records: Records, round_: Round, event: RoundEvent, counted: Progress | None = None) -> Round:
        """Ask the round machine, and find out no more for it than it needs: many may be awaited."""
        now = self._clock.now()
        if not depends_on_progress(round_, event):
            return step(round_, event, NO_PROGRESS, now=now)
        progress = counted or _progress(records, round_)
        after = step(round_, event, progress, now=now)
        if after == round_ or after == step(round_, event, replace(progress, num_awaited=1), now=now):
            return after  # nor would more who are awaited change it
        awaited = records.clients.count_awaited(round_.round_id, seen_since=now - self._active_seconds)
        return step(round_, event, replace(progress, num_awaited=awaited), now=now)

    def _follow(self, records: Records, round_: Round) -> None:
        """Do what a round's new state demands, in the same transaction."""
        match round_.state:
            case RoundState.COLLECTING:
                self._note(records, "round_started", round_, deadline=round_.deadline)
            case RoundState.AGGREGATING:
                if not round_.is_buffer:
                    self._end_leases(records, records.leases.of_job(round_.job_id))
                self._note(records, "round_aggregating", round_, num_updates=records.updates.count(round_.round_id))
            case RoundState.CLOSED:
                self._note(records, "round_closed", round_, version=round_.result_version)
            case RoundState.ABANDONED:
                if not round_.is_buffer:
                    self._end_leases(records, records.leases.of_job(round_.job_id))
                late = records.updates.list_as_late(round_.round_id)
                self._note(records, "round_abandoned", round_, reason=round_.reason, late_updates=late)
            case state:
                raise Broken(f"round {round_.round_id} moved to {state}, which no event leads to")
        if round_.state in (RoundState.CLOSED, RoundState.ABANDONED):
            next_ = self.open_next(records, records.jobs.get(round_.job_id))
            leases = records.leases.of_job(round_.job_id)
            self._end_leases(records, [lease for lease in leases if next_ is None or not next_.keeps(lease)])

    def _end_leases(self, records: Records, leases: Iterable[Task]) -> None:
        """End leases that nobody waits for: expired if their time was over too, else cancelled, nobody's failure."""
        now = self._clock.now()
        ended = [
            replace(task, state=TaskState.EXPIRED if task.deadline <= now else TaskState.CANCELLED, ended_at=now)
            for task in leases
        ]
        records.bulk.end_tasks(ended)
        records.journal.append_all([task_line(f"task_{task.state}", task, at=now, task=task.kind) for task in ended])

    def _note(self, records: Records, kind: str, round_: Round, **payload: Any) -> None:
        records.journal.append(kind, at=self._clock.now(), job_id=round_.job_id, round_id=round_.round_id, **payload)

    def _width(self, records: Records, job: Job, rounds: RoundsSection) -> tuple[int, int]:
        """Return how many leases may be out in the next round, and how stale its updates may be."""
        target = rounds.target_updates
        if rounds.mode == "fedbuff":
            concurrency = rounds.concurrency or LEASES_PER_UPDATE * target
            widest = default_max_staleness(concurrency=concurrency, buffer_size=target)
            return concurrency, widest if rounds.max_staleness is None else rounds.max_staleness
        if rounds.over_selection != "auto":
            return slots_for(target, over_selection=rounds.over_selection, report_fraction=1.0), 0
        share = self._recent.report_fraction(records, job.job_id)
        return slots_for(target, over_selection=None, report_fraction=share), 0


def _progress(records: Records, round_: Round) -> Progress:
    """Count what a round has got and who is at work for it, nobody else."""
    num_updates, num_leased = records.updates.count(round_.round_id), records.leases.count_of_round(round_.round_id)
    return Progress(num_updates, num_leased, num_awaited=0)


def not_closed(records: Records, round_: Round) -> RoundNotClosed:
    """Return the refusal that says how far a round is."""
    return RoundNotClosed(
        round_id=round_.round_id,
        state=round_.state,
        total_updates=records.updates.count(round_.round_id),
        min_updates=round_.min_updates,
    )
