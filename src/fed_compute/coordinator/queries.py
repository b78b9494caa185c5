"""Questions about the records that no component needs for its own work, for whoever shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from fed_compute.coordinator.task_assigner import own_task
from fed_compute.coordinator.timelines import NOTED_KINDS
from fed_compute.errors import RoundNotFound
from fed_compute.ids import ClientId, JobId, RoundId, TaskId
from fed_compute.rounds.leases import Ending, ending_of
from fed_compute.rounds.records import ClientState, Entry, Job, Round, Task, TaskKind, Update, Version
from fed_compute.storage.sql.ledger import LedgerLine
from fed_compute.storage.sql.sent import Sent
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


@dataclass(frozen=True, slots=True)
class SentView:
    """What one client sent and was accepted: by job, each with its name, and the newest updates one by one."""

    by_job: Sequence[tuple[str, Sent]]
    newest: Sequence[Update]

    @property
    def num_updates(self) -> int:
        """How many updates in all."""
        return sum(sent.num_updates for _, sent in self.by_job)

    @property
    def num_bytes(self) -> int:
        """How many bytes in all."""
        return sum(sent.num_bytes for _, sent in self.by_job)

    @property
    def last_at(self) -> float | None:
        """When the last one came."""
        return max((sent.last_at for _, sent in self.by_job), default=None)


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


def noted_in_round(store: Store, round_id: int) -> Sequence[Entry]:
    """Return the journal entries of a round that tell what its leases do not: refused and late updates."""
    with store.snapshot() as records:
        return records.journal.of_round(RoundId(round_id), kinds=NOTED_KINDS)


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
        live = records.rounds.live(task.job_id)
    return ending_of(task, round_, live=live, job_state=job.state, client_state=client_state)


def sent_by(store: Store, client_id: ClientId, *, newest: int) -> SentView:
    """Return what a client sent, with its newest updates, at most `newest`."""
    with store.snapshot() as records:
        by_job = [(records.jobs.get(sent.job_id).name, sent) for sent in records.sent.by_job(client_id)]
        return SentView(by_job, records.sent.newest(client_id, limit=newest) if newest else ())


def credit_of(store: Store, client_id: ClientId, *, limit: int) -> Sequence[LedgerLine]:
    """Return why a client has the credit that it has, newest reason first, at most `limit`."""
    with store.snapshot() as records:
        return records.ledger.lines_of(client_id, limit=limit, newest_first=True)


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


def entries_after(store: Store, seq: int, *, limit: int) -> Sequence[Entry]:
    """Return the journal's entries after number `seq`, oldest first, at most `limit`."""
    with store.snapshot() as records:
        return records.journal.after(seq, limit=limit)
