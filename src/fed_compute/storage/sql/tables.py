"""Every table. `migrations/` brings a database to this shape; a test compares the two."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from fed_compute.rounds.audits import Verdict
from fed_compute.rounds.bookkeeping import GroupKind
from fed_compute.rounds.records import (
    ClientState,
    JobState,
    RoundMode,
    RoundState,
    Scope,
    TaskKind,
    TaskState,
    UpdateState,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BigId = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column of type INTEGER."""


class Word(TypeDecorator[StrEnum]):
    """A StrEnum kept as its text."""

    impl = String(20)
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind
        self._words: dict[str | None, StrEnum | None] = {None: None, **{str(word): word for word in kind}}

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], StrEnum | None]:
        return self._words.__getitem__


jobs = Table(
    "jobs",
    metadata,
    Column("job_id", BigId, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("spec", Text, nullable=False),
    Column("schema", Text, nullable=False),
    Column("state", Word(JobState), nullable=False),
    Column("created_at", Double, nullable=False),
)

clients = Table(
    "clients",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("capabilities", Text, nullable=False),
    Column("registered_at", Double, nullable=False),
    Column("last_seen_at", Double, nullable=False, index=True),
    Column("state", Word(ClientState), nullable=False, server_default="active"),
    Column("state_reason", Text),
    Column("invite_id", String(16), index=True),  # no foreign key: `invites` has one to here
    Column("rounds_per_day", Integer),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(16), primary_key=True),
    Column("secret_hmac", String(64), nullable=False),
    Column("scope", Word(Scope), nullable=False),
    Column("client_id", String(64), ForeignKey("clients.client_id"), index=True),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("label", String(80), nullable=False, server_default=""),
    Column("expires_at", Double),
    Column("last_used_at", Double),
    Column("rotated_to", String(16)),
)

invites = Table(
    "invites",
    metadata,
    Column("invite_id", String(16), primary_key=True),
    Column("secret_hmac", String(64), nullable=False),
    Column("label", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", String(16)),
    Column("inviter", String(64), ForeignKey("clients.client_id"), index=True),
    Column("expires_at", Double, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("rounds_per_day", Integer),
    Column("revoked_at", Double),
    CheckConstraint("used >= 0 AND used <= uses", name="within_uses"),
)

spent_challenges = Table(
    "spent_challenges",
    metadata,
    Column("challenge_id", String(32), primary_key=True),
    Column("expires_at", Double, nullable=False, index=True),
)

rounds = Table(
    "rounds",
    metadata,
    Column("round_id", BigId, primary_key=True),
    Column("job_id", BigId, ForeignKey("jobs.job_id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("base_version", Integer, nullable=False),
    Column("state", Word(RoundState), nullable=False),
    Column("mode", Word(RoundMode), nullable=False),
    Column("target_updates", Integer, nullable=False),
    Column("min_updates", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("deadline_seconds", Double, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("started_at", Double),
    Column("deadline", Double),
    Column("closed_at", Double),
    Column("result_version", Integer),
    Column("reason", Text),
    Column("soft_seconds", Double),
    Column("gathering_since", Double),
    Column("max_staleness", Integer, nullable=False, server_default="0"),
    Column("left_seconds", Double),
    Column("worker", String(64)),
    Column("worker_until", Double),
    sqlite_autoincrement=True,
)
Index("ix_rounds_job_id_state", rounds.c.job_id, rounds.c.state)
Index("ix_rounds_state", rounds.c.state)
Index(
    "uq_rounds_live",
    rounds.c.job_id,
    unique=True,
    sqlite_where=text("state IN ('OPEN', 'COLLECTING', 'AGGREGATING')"),
    postgresql_where=text("state IN ('OPEN', 'COLLECTING', 'AGGREGATING')"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("task_id", String(32), primary_key=True),
    Column("job_id", BigId, ForeignKey("jobs.job_id"), nullable=False),
    Column("round_id", BigId, ForeignKey("rounds.round_id"), nullable=False),
    Column("client_id", String(64), ForeignKey("clients.client_id"), nullable=False),
    Column("kind", Word(TaskKind), nullable=False),
    Column("state", Word(TaskState), nullable=False),
    Column("base_version", Integer, nullable=False),
    Column("leased_at", Double, nullable=False),
    Column("deadline", Double, nullable=False),
    Column("heartbeats", Boolean, nullable=False),
    Column("progress", Double, nullable=False),
    Column("progress_at", Double, nullable=False, server_default="0"),
    Column("soft_deadline", Double),
    Column("ended_at", Double),
)
Index("ix_tasks_round_id_kind_state", tasks.c.round_id, tasks.c.kind, tasks.c.state)
Index("ix_tasks_client_id_round_id", tasks.c.client_id, tasks.c.round_id)
IS_LIVE = tasks.c.state == literal_column("'leased'")
"""Whether a task is a live lease: written out, since a parameter keeps SQLite from the indexes of live leases."""
Index("ix_tasks_live_deadline", tasks.c.deadline, sqlite_where=IS_LIVE, postgresql_where=IS_LIVE)
Index("uq_tasks_live", tasks.c.client_id, unique=True, sqlite_where=IS_LIVE, postgresql_where=IS_LIVE)

updates = Table(
    "updates",
    metadata,
    Column("update_id", BigId, primary_key=True),
    Column("task_id", String(32), ForeignKey("tasks.task_id"), nullable=False, unique=True),
    Column("job_id", BigId, ForeignKey("jobs.job_id"), nullable=False),
    Column("round_id", BigId, ForeignKey("rounds.round_id"), nullable=False),
    Column("client_id", String(64), ForeignKey("clients.client_id"), nullable=False),
    Column("base_version", Integer, nullable=False),
    Column("state", Word(UpdateState), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("encoding", String(16), nullable=False),
    Column("compression", String(16), nullable=False),
    Column("num_samples", BigInteger, nullable=False),
    Column("l2_norm", Double, nullable=False),
    Column("loss", Double),
    Column("received_at", Double, nullable=False),
    UniqueConstraint("round_id", "client_id"),
    sqlite_autoincrement=True,
)

versions = Table(
    "versions",
    metadata,
    Column("job_id", BigId, ForeignKey("jobs.job_id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("parent", Integer),
    Column("round_id", BigId, ForeignKey("rounds.round_id"), unique=True),
    Column("digest", String(64), nullable=False),
    Column("optimizer_digest", String(64)),
    Column("manifest", Text, nullable=False),
    Column("chain", String(64), nullable=False),
    Column("num_updates", Integer, nullable=False),
    Column("num_samples", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("task_id", String(32), ForeignKey("tasks.task_id"), primary_key=True),
    Column("job_id", BigId, ForeignKey("jobs.job_id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("round_id", BigId, ForeignKey("rounds.round_id"), nullable=False, index=True),
    Column("client_id", String(64), ForeignKey("clients.client_id"), nullable=False),
    Column("num_samples", BigInteger, nullable=False),
    Column("loss", Double, nullable=False),
    Column("accuracy", Double),
    Column("recorded_at", Double, nullable=False),
)

journal = Table(
    "journal",
    metadata,
    Column("seq", BigId, primary_key=True),
    Column("at", Double, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("job_id", BigId),
    Column("round_id", BigId, index=True),
    Column("client_id", String(64)),
    Column("task_id", String(32)),
    Column("payload", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_journal_client_id_seq", journal.c.client_id, journal.c.seq)

cursors = Table(
    "cursors",
    metadata,
    Column("reader", String(40), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
)

standings = Table(
    "standings",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("standing", Text, nullable=False),
)

round_metrics = Table(
    "round_metrics",
    metadata,
    Column("round_id", BigId, primary_key=True, autoincrement=False),
    Column("job_id", BigId, nullable=False),
    Column("metrics", Text, nullable=False),
)

earnings = Table(
    "earnings",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("earning", Text, nullable=False),
)

teams = Table(
    "teams",
    metadata,
    Column("team_id", BigId, primary_key=True),
    Column("name", String(40), nullable=False, unique=True),
    Column("code_digest", String(64), nullable=False, unique=True),
    Column("founder", String(64), ForeignKey("clients.client_id"), nullable=False),
    Column("created_at", Double, nullable=False),
    sqlite_autoincrement=True,
)

team_members = Table(
    "team_members",
    metadata,
    Column("client_id", String(64), ForeignKey("clients.client_id"), primary_key=True),
    Column("team_id", BigId, ForeignKey("teams.team_id"), nullable=False, index=True),
    Column("joined_at", Double, nullable=False),
)

# Nothing in these two is ever changed or deleted: triggers of the migration see to it.
ledger_groups = Table(
    "ledger_groups",
    metadata,
    Column("group_id", BigId, primary_key=True),
    Column("idempotency_key", String(120), nullable=False, unique=True),
    Column("client_id", String(64), nullable=False, index=True),
    Column("round_id", BigId),
    Column("reason", String(40), nullable=False),
    Column("at", Double, nullable=False, index=True),
    Column("kind", Word(GroupKind), nullable=False, server_default="grant"),
    Column("task_id", String(32), index=True),
    Column("team_id", BigId, index=True),
    Column("refers_to", BigId),
    Column("terms", Text, nullable=False, server_default="{}"),
    sqlite_autoincrement=True,
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("group_id", BigId, ForeignKey("ledger_groups.group_id"), primary_key=True),
    Column("account", String(80), primary_key=True, index=True),
    Column("micro_tokens", BigInteger, nullable=False),
    CheckConstraint("micro_tokens <> 0", name="not_zero"),
)

ledger_accounts = Table(
    "ledger_accounts",
    metadata,
    Column("account", String(80), primary_key=True),
    Column("client_id", String(64), index=True),
    Column("micro_tokens", BigInteger, nullable=False),
    CheckConstraint("account = 'mint' OR micro_tokens >= 0", name="not_overdrawn"),
)

audits = Table(
    "audits",
    metadata,
    Column("audit_id", BigId, primary_key=True),
    Column("update_id", BigId, ForeignKey("updates.update_id"), nullable=False, unique=True),
    Column("job_id", BigId, ForeignKey("jobs.job_id"), nullable=False),
    Column("round_id", BigId, ForeignKey("rounds.round_id"), nullable=False, index=True),
    Column("client_id", String(64), ForeignKey("clients.client_id"), nullable=False, index=True),
    Column("auditors", Integer, nullable=False),
    Column("salt", String(32), nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("deadline", Double, nullable=False),
    Column("closed_at", Double),
    Column("verdict", Word(Verdict)),
    Column("score", Double),
    sqlite_autoincrement=True,
)
Index("ix_audits_job_id_closed_at", audits.c.job_id, audits.c.closed_at)

audit_reports = Table(
    "audit_reports",
    metadata,
    Column("task_id", String(32), ForeignKey("tasks.task_id"), primary_key=True),
    Column("audit_id", BigId, ForeignKey("audits.audit_id"), nullable=False),
    Column("client_id", String(64), ForeignKey("clients.client_id"), nullable=False),
    Column("num_samples", BigInteger),
    Column("base_loss", Double),
    Column("loss", Double),
    Column("reported_at", Double),
    UniqueConstraint("audit_id", "client_id"),
)

round_contributions = Table(
    "round_contributions",
    metadata,
    Column("round_id", BigId, primary_key=True, autoincrement=False),
    Column("job_id", BigId, nullable=False),
    Column("contribution", Text, nullable=False),
)

contributors = Table(
    "contributors",
    metadata,
    Column("job_id", BigId, primary_key=True, autoincrement=False),
    Column("client_id", String(64), primary_key=True),
    Column("importance", Double, nullable=False),
)
