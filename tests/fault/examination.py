"""What a data folder owes to its clients: every acknowledged update, once, and nothing that nobody sent."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fed_compute.coordinator.data_dir import DATABASE
from fed_compute.coordinator.folding import read_manifest
from fed_compute.coordinator.verify import verify_data_dir
from fed_compute.ids import UpdateId
from fed_compute.rounds.records import RoundState, Update, Version
from fed_compute.storage.sql.database import open_database
from fed_compute.storage.sql.store import Store
from tests.fault.light_client import Acknowledged, Memory


@dataclass(frozen=True)
class Books:
    """The records that matter here."""

    updates: tuple[Update, ...]
    versions: tuple[Version, ...]
    closed_rounds: frozenset[int]

    @property
    def counted(self) -> Counter[int]:
        """How often each update is in the manifest of a version."""
        manifests = (read_manifest(version.manifest) for version in self.versions)
        return Counter(update_id for manifest in manifests for update_id, _, _ in manifest)


@dataclass(frozen=True)
class Findings:
    """What was found; all four are empty when every promise was kept."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    invented: tuple[str, ...]
    breaches: tuple[str, ...]


def examine(data_dir: Path, memories: Iterable[Memory]) -> Findings:
    """Hold a data folder, whose coordinator may be running, against what its clients remember.

    All clients that ever sent to it must be among `memories`. Cost: that of `verify`, which reads every blob.
    """
    memories = list(memories)
    promises = [promise for memory in memories for promise in memory.acknowledged]
    books = read_books(data_dir)
    return Findings(
        lost=tuple(lost(books, promises)),
        doubled=tuple(doubled(books, promises)),
        invented=tuple(invented(books, memories)),
        breaches=verify_data_dir(data_dir).breaches,
    )


def read_books(data_dir: Path) -> Books:
    """Read the records from one moment."""
    store = Store(open_database(f"sqlite:///{data_dir / DATABASE}"))
    try:
        with store.snapshot() as records:
            jobs = [job.job_id for job in records.jobs.all()]
            rounds = [round_ for job in jobs for round_ in records.rounds.of_job(job)]
            return Books(
                updates=tuple(records.updates.all()),
                versions=tuple(version for job in jobs for version in records.versions.of_job(job)),
                closed_rounds=frozenset(r.round_id for r in rounds if r.state is RoundState.CLOSED),
            )
    finally:
        store.close()


def lost(books: Books, promises: Iterable[Acknowledged]) -> Iterator[str]:
    """Yield acknowledged updates that are not on record as they were sent, or not counted in a round that is closed."""
    recorded, counted = {update.update_id: update for update in books.updates}, books.counted
    for promise in promises:
        update = recorded.get(UpdateId(promise.update_id))
        if update is None or (update.task_id, update.digest) != (promise.task_id, promise.digest):
            yield f"{promise} is on record as {update}"
        elif update.round_id in books.closed_rounds and not counted[update.update_id]:
            yield f"{promise} is not counted in round {update.round_id}, which is closed"


def doubled(books: Books, promises: Iterable[Acknowledged]) -> Iterator[str]:
    """Yield what counts twice. Each task's bytes are like no other's, so a repeated digest is one too."""
    yield from (f"update {key} is in {count} manifests" for key, count in books.counted.items() if count > 1)
    digests = Counter(update.digest for update in books.updates)
    yield from (f"the update {digest} is on record {count} times" for digest, count in digests.items() if count > 1)
    tasks = Counter(task_id for task_id, _ in {(promise.task_id, promise.update_id) for promise in promises})
    yield from (f"task {task_id} was promised {count} updates" for task_id, count in tasks.items() if count > 1)


def invented(books: Books, memories: Iterable[Memory]) -> Iterator[str]:
    """Yield updates that nobody sent, and models that clients were given and that are no version."""
    memories = list(memories)
    attempted = {digest for memory in memories for digest in memory.attempted}
    yield from (f"nobody sent update {u.update_id}" for u in books.updates if u.digest not in attempted)
    committed = {(version.version, str(version.digest)) for version in books.versions}
    given = {given for memory in memories for given in memory.models.items()}
    yield from (f"v{version} was given as {digest}" for version, digest in sorted(given - committed))
