"""All repositories of one transaction, in one hand."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from fed_compute.rounds.records import Entry
from fed_compute.storage.sql.audits import AuditReportRows, AuditRows
from fed_compute.storage.sql.bulk import BulkRows
from fed_compute.storage.sql.clients import ClientRows
from fed_compute.storage.sql.curves import CurveRows
from fed_compute.storage.sql.database import Database, DatabaseLoad
from fed_compute.storage.sql.evaluations import EvaluationRows
from fed_compute.storage.sql.invites import ChallengeRows, InviteRows
from fed_compute.storage.sql.jobs import JobRows
from fed_compute.storage.sql.journal import JournalRows
from fed_compute.storage.sql.keys import KeyRows
from fed_compute.storage.sql.leases import LeaseRows
from fed_compute.storage.sql.ledger import LedgerRows
from fed_compute.storage.sql.measured import MeasuredRows
from fed_compute.storage.sql.memory import Memory, View
from fed_compute.storage.sql.projections import (
    Importances,
    Projection,
    earnings,
    round_contributions,
    round_metrics,
    standings,
)
from fed_compute.storage.sql.rankings import RankingRows
from fed_compute.storage.sql.rounds import RoundRows
from fed_compute.storage.sql.sent import SentRows
from fed_compute.storage.sql.tasks import TaskRows
from fed_compute.storage.sql.teams import TeamRows
from fed_compute.storage.sql.updates import UpdateRows
from fed_compute.storage.sql.versions import VersionRows


@dataclass(frozen=True, slots=True)
class Records:
    """The repositories, all on one connection and so in one transaction."""

    jobs: JobRows
    clients: ClientRows
    keys: KeyRows
    invites: InviteRows
    challenges: ChallengeRows
    rounds: RoundRows
    tasks: TaskRows
    leases: LeaseRows
    measured: MeasuredRows
    updates: UpdateRows
    sent: SentRows
    evaluations: EvaluationRows
    curves: CurveRows
    versions: VersionRows
    journal: JournalRows
    ledger: LedgerRows
    standings: Projection
    round_metrics: Projection
    earnings: Projection
    rankings: RankingRows
    teams: TeamRows
    audits: AuditRows
    audit_reports: AuditReportRows
    round_contributions: Projection
    importances: Importances
    bulk: BulkRows


def _records(connection: Connection, journal: JournalRows, view: View | None = None) -> Records:
    return Records(
        jobs=JobRows(connection),
        clients=ClientRows(connection),
        keys=KeyRows(connection),
        invites=InviteRows(connection),
        challenges=ChallengeRows(connection),
        rounds=RoundRows(connection),
        tasks=TaskRows(connection),
        leases=LeaseRows(connection),
        measured=MeasuredRows(connection),
        updates=UpdateRows(connection, view),
        sent=SentRows(connection),
        evaluations=EvaluationRows(connection),
        curves=CurveRows(connection),
        versions=VersionRows(connection),
        journal=journal,
        ledger=LedgerRows(connection),
        standings=standings(connection),
        round_metrics=round_metrics(connection),
        earnings=earnings(connection),
        rankings=RankingRows(connection),
        teams=TeamRows(connection),
        audits=AuditRows(connection),
        audit_reports=AuditReportRows(connection),
        round_contributions=round_contributions(connection),
        importances=Importances(connection),
        bulk=BulkRows(connection, view),
    )


class Store:
    """The records, one transaction at a time. Whoever waits for news registers with `on_commit`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._memory = Memory()
        self._listeners: list[Callable[[], None]] = []
        self._readers: list[Callable[[Sequence[Entry]], None]] = []

    @property
    def load(self) -> DatabaseLoad:
        """What this process asked of the database."""
        return self._database.load

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every committed transaction, on the thread that committed."""
        self._listeners.append(listener)

    def on_entries(self, reader: Callable[[Sequence[Entry]], None]) -> None:
        """Call `reader` with what a committed transaction has appended to the journal. It must not raise."""
        self._readers.append(reader)

    @contextmanager
    def transaction(self) -> Iterator[Records]:
        """Run a block that changes records: durable as a whole afterwards, or not at all."""
        with self._database.write() as connection:
            records = _records(connection, JournalRows(connection))
            yield records
            entries = records.journal.appended() if self._readers else []
        self._tell(entries)

    @contextmanager
    def batch(self) -> Iterator[Records]:
        """Run a transaction that changes tasks, updates and clients by `bulk` only: what it writes is remembered."""
        with self._database.write() as connection:
            journal = JournalRows(connection)
            view = View(self._memory, journal.last_seq)
            view.begin()
            records = _records(connection, journal, view)
            yield records
            entries = records.journal.appended() if self._readers else []
            as_of = journal.last_seq()
        view.keep(as_of=as_of)
        self._tell(entries)

    def _tell(self, entries: Sequence[Entry]) -> None:
        if entries:
            for reader in self._readers:
                reader(entries)
        for listener in self._listeners:
            listener()

    @contextmanager
    def snapshot(self) -> Iterator[Records]:
        """Run a block that reads records, all from one moment."""
        with self._database.read() as connection:
            journal = JournalRows(connection)
            yield _records(connection, journal, View(self._memory, journal.last_seq))

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
