"""Questions about the records that no component needs for its own work, for whoever shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from fed_compute.coordinator.task_assigner import own_task
from fed_compute.errors import RoundNotFound
from fed_compute.ids import ClientId, JobId, RoundId, TaskId
from fed_compute.rounds.leases import Ending, ending_of
from fed_compute.rounds.records import ClientState, Entry, Job, Round, Task, TaskKind, Update, Version
from fed_compute.storage.sql.store import Store


@dataclass(frozen=True, slots=True)
class RoundView:
    """A round with everything that happened in it. `version` is its result, if it has one."""

    round: Round
    job: Job
    tasks: Sequence[Task]
    updates: Sequence[Update]
    version: Version | None


@dataclass(frozen=True, slots=True)
class Population:
    """How many clients are registered, and how many were heard of lately."""

    registered: int
    active: int


def view_round(store: Store, round_id: int) -> RoundView:
    """Return one round.

    Raises:
        RoundNotFound: if there is none of this number.
    """
    with store.snapshot() as records:
        round_ = records.rounds.find(RoundId(round_id))
        if round_ is None:
            raise RoundNotFound(round_id)
        return RoundView(
            round=round_,
            job=records.jobs.get(round_.job_id),
            tasks=records.tasks.of_round(round_.round_id, TaskKind.TRAIN),
            updates=records.updates.of_round(round_.round_id),
            version=records.versions.of_round(round_.round_id),
        )


def live_round(store: Store, job_id: JobId) -> Round | None:
    """Return the round of a job that is not over, if there is one."""
    with store.snapshot() as records:
        return records.rounds.live(job_id)


def accepted_update(store: Store, client_id: ClientId, task_id: TaskId) -> Update | None:
    """Return the update that a client's task already has.

    Raises:
        TaskNotFound: if the client has no such task.
    """
    with store.snapshot() as records:
        own_task(records, client_id, task_id)
        return records.updates.of_task(task_id)


def why_over(store: Store, task: Task) -> Ending:
    """Return why a lease that is no longer live is over."""
    with store.snapshot() as records:
        round_, job = records.rounds.get(task.round_id), records.jobs.get(task.job_id)
        client = records.clients.find(task.client_id)
        client_state = ClientState.ACTIVE if client is None else client.state
    return ending_of(task, round_, job_state=job.state, client_state=client_state)


def population(store: Store, *, seen_since: float) -> Population:
    """Count the clients; `seen_since` is Unix seconds."""
    with store.snapshot() as records:
        return Population(registered=records.clients.count(), active=records.clients.count(seen_since=seen_since))


def last_seq(store: Store) -> int:
    """Return the number of the journal's newest entry, 0 if it is empty."""
    with store.snapshot() as records:
        return records.journal.last_seq()


def seq_before(store: Store, moment: float) -> int:
    """Return the number of the last entry that is older than a moment, in Unix seconds; 0 if there is none.

    Cost: a search by halves. If the clock was set back meanwhile, an entry near the places where it was.
    """
    with store.snapshot() as records:
        low, high = 0, records.journal.last_seq()  # what is sought lies in low..high
        while low < high:
            middle = (low + high + 1) // 2
            found = records.journal.after(middle - 1, limit=1)
            if found and found[0].at < moment:
                low = max(middle, min(found[0].seq, high))
            else:
                high = middle - 1
        return low


def newest_entries(
    store: Store, *, limit: int, kind: str | None = None, client_id: str | None = None
) -> Sequence[Entry]:
    """Return the journal's newest entries, newest first, at most `limit`: all, or those of a kind or a client."""
    with store.snapshot() as records:
        return records.journal.newest(limit=limit, kind=kind, client_id=client_id)


def entries_after(store: Store, seq: int, *, limit: int) -> Sequence[Entry]:
    """Return the journal's entries after number `seq`, oldest first, at most `limit`."""
    with store.snapshot() as records:
        return records.journal.after(seq, limit=limit)
