"""Takes up where the last process stopped, and says what lay there."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import structlog

from fed_compute.clock import Clock
from fed_compute.coordinator.task_assigner import TaskAssigner
from fed_compute.errors import BlobMissing
from fed_compute.ids import Digest
from fed_compute.rounds.records import RoundState, TaskKind, TaskState
from fed_compute.storage.blobs import BlobStore
from fed_compute.storage.sql.store import Records, Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What a starting process found."""

    rounds_collecting: int
    rounds_to_publish: int
    """Rounds that were closing: their version is made now."""
    updates_kept: int
    """Accepted updates of all these rounds."""
    leases_kept: int
    leases_revived: int
    """Leases that ran out while no process could answer, and go on."""

    @property
    def found_anything(self) -> bool:
        """Whether work was under way when the last process ended."""
        return any((self.rounds_collecting, self.rounds_to_publish, self.leases_kept))

    @property
    def mended_anything(self) -> bool:
        """Whether something was not as it would be without the break."""
        return bool(self.leases_revived or self.rounds_to_publish)


class Recovery:
    """Looks once, before the background duties start; `report` is what was found last, None before."""

    def __init__(self, store: Store, blobs: BlobStore, tasks: TaskAssigner, clock: Clock) -> None:
        self.report: RecoveryReport | None = None
        self._store = store
        self._blobs = blobs
        self._tasks = tasks
        self._clock = clock

    def take_up(self) -> RecoveryReport:
        """Revive leases, log and keep a report, and journal it as `recovered` if anything was mended.

        Raises:
            BlobMissing: if a live round's update or a job's newest model is not in the store: an acknowledged update
                would be lost, so nothing is started. Put the file back, or restore a backup.

        Cost: one look at the size of each such blob. Whether the bytes are right is seen when they are used.
        """
        revived = self._tasks.revive_leases()
        with self._store.snapshot() as records:
            report, needed = _report(records, revived), list(_needed(records))
        for digest in needed:
            if self._blobs.size(digest) is None:
                raise BlobMissing(digest)
        if report.mended_anything:
            with self._store.transaction() as records:
                records.journal.append("recovered", at=self._clock.now(), **asdict(report))
        log.info("recovered", **asdict(report))
        self.report = report
        return report


def _report(records: Records, leases_revived: int) -> RecoveryReport:
    collecting = records.rounds.in_states([RoundState.COLLECTING])
    aggregating = records.rounds.in_states([RoundState.AGGREGATING])
    leases = (records.tasks.count(round_.round_id, TaskKind.TRAIN).get(TaskState.LEASED, 0) for round_ in collecting)
    return RecoveryReport(
        rounds_collecting=len(collecting),
        rounds_to_publish=len(aggregating),
        updates_kept=sum(records.updates.count(round_.round_id) for round_ in (*collecting, *aggregating)),
        leases_kept=sum(leases),
        leases_revived=leases_revived,
    )


def _needed(records: Records) -> Iterator[Digest]:
    """Yield the blobs without which the live rounds cannot go on."""
    for job in records.jobs.all():
        version = records.versions.latest(job.job_id)
        yield version.digest
        if version.optimizer_digest is not None:
            yield version.optimizer_digest
    for round_ in records.rounds.in_states([RoundState.COLLECTING, RoundState.AGGREGATING]):
        yield from (update.digest for update in records.updates.of_round(round_.round_id))
