"""All repositories of one transaction, in one hand."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

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

_RowsT = TypeVar("_RowsT")


class _Part(Generic[_RowsT]):
    """A repository that is made when it is first asked for: a transaction needs few of them."""

    def __init__(self, make: Callable[["Records"], _RowsT]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, records: "Records", owner: type) -> _RowsT:
        made = self._make(records)
        vars(records)[self._name] = made  # which is found first from now on
        return made


class Records:
    """The repositories, all on one connection and so in one transaction."""

    def __init__(self, connection: Connection, journal: JournalRows, view: View) -> None:
        self.connection = connection
        self.journal = journal
        self.view = view

    jobs = _Part(lambda of: JobRows(of.connection, of.view))
    clients = _Part(lambda of: ClientRows(of.connection))
    keys = _Part(lambda of: KeyRows(of.connection))
    invites = _Part(lambda of: InviteRows(of.connection))
    challenges = _Part(lambda of: ChallengeRows(of.connection))
    rounds = _Part(lambda of: RoundRows(of.connection, of.view))
    tasks = _Part(lambda of: TaskRows(of.connection))
    leases = _Part(lambda of: LeaseRows(of.connection, of.view))
    measured = _Part(lambda of: MeasuredRows(of.connection, of.view))
    updates = _Part(lambda of: UpdateRows(of.connection, of.view))
    sent = _Part(lambda of: SentRows(of.connection))
    evaluations = _Part(lambda of: EvaluationRows(of.connection))
    curves = _Part(lambda of: CurveRows(of.connection))
    versions = _Part(lambda of: VersionRows(of.connection))
    ledger = _Part(lambda of: LedgerRows(of.connection))
    standings = _Part(lambda of: standings(of.connection))
    round_metrics = _Part(lambda of: round_metrics(of.connection))
    earnings = _Part(lambda of: earnings(of.connection))
    rankings = _Part(lambda of: RankingRows(of.connection))
    teams = _Part(lambda of: TeamRows(of.connection))
    audits = _Part(lambda of: AuditRows(of.connection))
    audit_reports = _Part(lambda of: AuditReportRows(of.connection))
    round_contributions = _Part(lambda of: round_contributions(of.connection))
    importances = _Part(lambda of: Importances(of.connection))
    bulk = _Part(lambda of: BulkRows(of.connection, of.view))


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
            journal = JournalRows(connection)
            records = Records(connection, journal, View(None, journal.last_seq))
            yield records
            entries = records.journal.appended() if self._readers else []
        self._tell(entries)

    @contextmanager
    def batch(self) -> Iterator[Records]:
        """Run a transaction that changes tasks, updates and clients by `bulk` only: what it writes is remembered.

        Each change of a round, a job or any of those has its entry in the journal.
        """
        with self._database.write() as connection:
            journal = JournalRows(connection)
            view = View(self._memory, journal.last_seq)
            view.begin()
            yield Records(connection, journal, view)
            entries = journal.appended() if self._readers else []
        view.keep(num_entries=journal.num_appended)
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
            yield Records(connection, journal, View(self._memory, journal.last_seq))

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
