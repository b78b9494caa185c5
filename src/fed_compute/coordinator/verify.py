"""What must be true after anything, checked on the stored data itself.

Each check reads, changes nothing, and lists every breach it finds. The numbers in the names are
those of the design's invariants. It can run beside a working coordinator: one snapshot is read, and
blobs never change.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fed_compute.coordinator.data_dir import DATABASE
from fed_compute.coordinator.folding import RoundFold, read_manifest
from fed_compute.coordinator.reconcile import Books, ledger_breaches, read_books
from fed_compute.coordinator.weighing import in_folding_order, weights_of
from fed_compute.errors import Broken, DataDirUnusable, InvariantBroken, UpdateRefused
from fed_compute.ids import ClientId, Digest, RoundId, TaskId, UpdateId
from fed_compute.protocol.lineage import FIRST_CHAIN, chain_digest
from fed_compute.rounds.records import (
    OVER_JOB_STATES,
    Job,
    JobState,
    Round,
    RoundState,
    Task,
    TaskKind,
    TaskState,
    Update,
    UpdateState,
    Version,
)
from fed_compute.storage.blob_stores import open_blobs
from fed_compute.storage.blobs import BlobStore
from fed_compute.storage.sql.database import open_database
from fed_compute.storage.sql.store import Records, Store

TERMINAL = (RoundState.CLOSED, RoundState.ABANDONED)
_INTACT = "I1/I13 every recorded blob is there and unchanged"
_REBUILT = "I6 every version rebuilds byte for byte"
_LEASE_ENDS = ("update_accepted", "task_expired", "task_released", "task_cancelled")
"""The journal's kinds that end a lease of training."""
_LEASE_END_COUNTS = {TaskState.LEASED: (0,), TaskState.LATE: (0, 1)}
"""How often a lease has ended, where that is not once: a late update may come before anything else ends its lease."""


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant: how many things were looked at, and what was wrong."""

    name: str
    looked_at: int
    breaches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The result of all checks."""

    checks: tuple[Check, ...]

    @property
    def breaches(self) -> tuple[str, ...]:
        """Every breach of every check."""
        return tuple(f"{check.name}: {breach}" for check in self.checks for breach in check.breaches)


@dataclass(frozen=True, slots=True)
class _Facts:
    """Everything the checks look at, from one moment."""

    jobs: list[Job]
    rounds: dict[RoundId, Round]
    tasks: list[Task]
    updates: list[Update]
    versions: list[Version]
    terminal_entries: Counter[RoundId | None]
    accepted_entries: int
    lease_ends: Counter[TaskId | None]
    books: Books


def verify_data_dir(
    data_dir: Path, *, database_url: str | None = None, blob_url: str | None = None, records_only: bool = False
) -> Report:
    """Check the invariants on a data folder, every version rebuilt byte for byte, or only what needs no blob.

    Raises:
        DataDirUnusable: if there is no coordinator's data in the folder.
    """
    file = data_dir / DATABASE
    if database_url is None and not file.is_file():
        raise DataDirUnusable(f"{data_dir} holds no coordinator data (no {DATABASE}); name a --data-dir")
    store = Store(open_database(database_url or f"sqlite:///{file}"))
    try:
        return verify(store, open_blobs(blob_url, data_dir / "blobs"), records_only=records_only)
    finally:
        store.close()


def verify(store: Store, blobs: BlobStore, *, records_only: bool = False) -> Report:
    """Check the invariants on a store and its blobs. Cost: every blob is read once and hashed.

    With `records_only` no blob is read, and the checks that need them (I1, I6, I13) are left out.
    """
    with store.snapshot() as records:
        facts = _gather(records)
    checks: list[tuple[str, int, Iterator[str]]] = [
        (_INTACT, len(facts.updates), _blobs_intact(facts, blobs)),
        ("I2/I3 every accepted update is counted once, or listed as late", len(facts.updates), _counted_once(facts)),
        ("I4 a round ends once, and with its job", len(facts.rounds), _rounds_end_once(facts)),
        ("I5 the version chain is linear and unbroken", len(facts.versions), _chain_linear(facts)),
        (_REBUILT, len(facts.versions), _rebuilds(facts, blobs)),
        ("I8 no two live leases, every lease ends once", len(facts.tasks), _leases_sound(facts)),
        ("I9 the ledger sums to zero and pays only counted work", len(facts.books.rows), _books_sound(facts)),
    ]
    if records_only:
        checks = [check for check in checks if check[0] not in (_INTACT, _REBUILT)]
    return Report(tuple(Check(name, count, tuple(breaches)) for name, count, breaches in checks))


def _gather(records: Records) -> _Facts:
    jobs = records.jobs.all()
    rounds = {round_.round_id: round_ for job in jobs for round_ in records.rounds.of_job(job.job_id)}
    terminal: Counter[RoundId | None] = Counter()
    lease_ends: Counter[TaskId | None] = Counter()
    published: dict[RoundId, int] = {}
    accepted, seq = 0, 0
    while entries := records.journal.after(seq):
        seq = entries[-1].seq
        terminal.update(e.round_id for e in entries if e.kind in ("round_closed", "round_abandoned"))
        published |= {e.round_id: e.seq for e in entries if e.kind == "version_published" and e.round_id is not None}
        accepted += sum(e.kind == "update_accepted" for e in entries)
        lease_ends.update(e.task_id for e in entries if e.kind in _LEASE_ENDS)
    return _Facts(
        jobs=jobs,
        rounds=rounds,
        tasks=[task for round_id in rounds for kind in TaskKind for task in records.tasks.of_round(round_id, kind)],
        updates=list(records.updates.all()),
        versions=[version for job in jobs for version in records.versions.of_job(job.job_id)],
        terminal_entries=terminal,
        accepted_entries=accepted,
        lease_ends=lease_ends,
        books=read_books(records, published),
    )


def _blobs_intact(facts: _Facts, blobs: BlobStore) -> Iterator[str]:
    named: set[Digest] = {update.digest for update in facts.updates}
    for version in facts.versions:
        named.add(version.digest)
        named |= {version.optimizer_digest} if version.optimizer_digest is not None else set()
    for digest in sorted(named):
        try:
            blobs.get(digest)
        except Broken as error:
            yield error.message


def _counted_once(facts: _Facts) -> Iterator[str]:
    if facts.accepted_entries != len(facts.updates):
        yield f"the journal accepted {facts.accepted_entries} updates, {len(facts.updates)} are recorded"
    by_id: dict[int, Update] = {update.update_id: update for update in facts.updates}
    counted: Counter[int] = Counter()
    for version in facts.versions:
        try:
            manifest = read_manifest(version.manifest)
        except InvariantBroken as error:
            yield f"v{version.version}: {error.message}"
            continue
        for update_id, digest, _ in manifest:
            counted[update_id] += 1
            update = by_id.get(update_id)
            if update is None:
                yield f"v{version.version} counts update {update_id}, which nobody sent"
            elif (update.digest, update.round_id) != (digest, version.round_id):
                yield f"v{version.version} counts update {update_id} with another digest or round"
    yield from _weights_follow(facts)
    yield from _young_enough(facts)
    for update in facts.updates:
        state, times = facts.rounds[update.round_id].state, counted[update.update_id]
        late = update.state is UpdateState.LATE
        wanted = 1 if state is RoundState.CLOSED else 0
        if times != wanted or late != (state is RoundState.ABANDONED):
            where = f"update {update.update_id} ({update.state}) of round {update.round_id} ({state})"
            yield f"{where} is counted {times} times"


def _young_enough(facts: _Facts) -> Iterator[str]:
    """Find updates that started from another version than their lease, or from one that their round does not take."""
    leases = {task.task_id: task for task in facts.tasks}
    for update in facts.updates:
        lease, round_ = leases.get(update.task_id), facts.rounds[update.round_id]
        if lease is None or (lease.base_version, lease.job_id) != (update.base_version, round_.job_id):
            yield f"update {update.update_id} does not start where its lease of task {update.task_id} did"
        elif not 0 <= round_.base_version - update.base_version <= round_.max_staleness:
            where = f"round {round_.round_id}, which changes v{round_.base_version}"
            yield f"update {update.update_id} starts from v{update.base_version} and is counted in {where}"


def _weights_follow(facts: _Facts) -> Iterator[str]:
    """Find weights that do not follow from the claims, the job's rule and what was counted before."""
    by_id: dict[int, Update] = {update.update_id: update for update in facts.updates}
    for job in facts.jobs:
        before: Counter[ClientId] = Counter()
        for version in (version for version in facts.versions if version.job_id == job.job_id):
            try:
                manifest = read_manifest(version.manifest)
                updates = [by_id[update_id] for update_id, _, _ in manifest]
                wanted = weights_of(job, updates, before, base_version=version.version - 1)
            except (InvariantBroken, UpdateRefused, KeyError, ValueError) as error:
                yield f"job {job.name}: the weights of v{version.version} cannot be checked: {error}"
                continue
            in_sequence = sorted(updates, key=lambda update: update.update_id)
            if updates not in (in_folding_order(job, in_sequence, before), in_sequence):  # as it once was
                yield f"job {job.name}: v{version.version} counts its updates in an unknown order"
            before.update(update.client_id for update in updates)
            for (update_id, _, weight), right in zip(manifest, wanted, strict=True):
                if weight != right:
                    yield f"job {job.name}: v{version.version} counts update {update_id} with {weight}, not {right}"


def _rounds_end_once(facts: _Facts) -> Iterator[str]:
    results = Counter(version.round_id for version in facts.versions)
    made = {version.round_id: version.version for version in facts.versions}
    for round_id, round_ in facts.rounds.items():
        ended = 1 if round_.state in TERMINAL else 0
        if facts.terminal_entries[round_id] != ended:
            yield f"round {round_id} is {round_.state} and ended {facts.terminal_entries[round_id]} times"
        if results[round_id] != (1 if round_.state is RoundState.CLOSED else 0):
            yield f"round {round_id} is {round_.state} and has {results[round_id]} results"
        elif round_.result_version != made.get(round_id):
            yield f"round {round_id} names v{round_.result_version} as its result, which is v{made.get(round_id)}"
    yield from _rounds_follow_jobs(facts)


def _rounds_follow_jobs(facts: _Facts) -> Iterator[str]:
    """Find jobs with a live round too many or too few, and rounds that wait although their job does not."""
    for job in facts.jobs:
        live = [r for r in facts.rounds.values() if r.job_id == job.job_id and r.state not in TERMINAL]
        if len(live) != (0 if job.state in OVER_JOB_STATES else 1):
            yield f"job {job.name} is {job.state} and has {len(live)} live rounds"
    for round_ in facts.rounds.values():
        collects = round_.state in (RoundState.OPEN, RoundState.COLLECTING)
        job = next(job for job in facts.jobs if job.job_id == round_.job_id)
        if round_.is_paused != (collects and job.state is JobState.PAUSED):
            yield f"round {round_.round_id} is {round_.state}, paused: {round_.is_paused}, and its job is {job.state}"


def _chain_linear(facts: _Facts) -> Iterator[str]:
    for job in facts.jobs:
        chain: str = FIRST_CHAIN
        for number, version in enumerate((v for v in facts.versions if v.job_id == job.job_id), start=1):
            if version.version != number or version.parent != (number - 1 or None):
                yield f"job {job.name}: v{version.version} with parent {version.parent} stands at place {number}"
            if version.chain != chain_digest(chain, manifest=version.manifest, model=version.digest):
                yield f"job {job.name}: the chain digest of v{version.version} does not follow from its parent"
            chain = version.chain


def _rebuilds(facts: _Facts, blobs: BlobStore) -> Iterator[str]:
    by_id: dict[int, Update] = {update.update_id: update for update in facts.updates}
    for job in facts.jobs:
        versions = [version for version in facts.versions if version.job_id == job.job_id]
        for parent, version in itertools.pairwise(versions):
            try:
                fold = RoundFold(job, blobs, base_version=parent.version)
                manifest = read_manifest(version.manifest)
                fold.add(by_id[update_id] for update_id, _, _ in sorted(manifest))
                optimizer = None if parent.optimizer_digest is None else bytes(blobs.get(parent.optimizer_digest))
                weights = {UpdateId(update_id): weight for update_id, _, weight in manifest}
                made = fold.finish(bytes(blobs.get(parent.digest)), optimizer, weights=weights)
                if made.model != blobs.get(version.digest):
                    yield f"job {job.name}: v{version.version} rebuilds to other bytes"
                if version.optimizer_digest is not None and made.state != blobs.get(version.optimizer_digest):
                    yield f"job {job.name}: the optimiser state of v{version.version} rebuilds to other bytes"
            except (Broken, UpdateRefused, KeyError, ValueError) as error:
                yield f"job {job.name}: v{version.version} cannot be rebuilt: {error}"


def _leases_sound(facts: _Facts) -> Iterator[str]:
    live = Counter(task.client_id for task in facts.tasks if task.state is TaskState.LEASED)
    yield from (f"client {client} holds {count} live leases" for client, count in live.items() if count > 1)
    updates = Counter(update.task_id for update in facts.updates)
    present = {round_.job_id: round_ for round_ in facts.rounds.values() if round_.state not in TERMINAL}
    for task in facts.tasks:
        training = task.kind is TaskKind.TRAIN
        if training and updates[task.task_id] != (1 if task.state is TaskState.REPORTED else 0):
            yield f"task {task.task_id} is {task.state} and has {updates[task.task_id]} updates"
        has_ended = facts.rounds[task.round_id].state in TERMINAL
        goes_on = task.job_id in present and present[task.job_id].keeps(task)
        if training and task.state is TaskState.LEASED and has_ended and not goes_on:
            yield f"task {task.task_id} is leased although round {task.round_id} has ended"
        if (task.ended_at is None) != (task.state is TaskState.LEASED):
            yield f"task {task.task_id} is {task.state} with end time {task.ended_at}"
        ends = facts.lease_ends[task.task_id]
        if training and ends not in _LEASE_END_COUNTS.get(task.state, (1,)):
            yield f"task {task.task_id} is {task.state} and its lease ended {ends} times"


def _books_sound(facts: _Facts) -> Iterator[str]:
    return ledger_breaches(facts.books, updates=facts.updates, tasks=facts.tasks, rounds=facts.rounds)
