"""reputation and credit: escrow and reversals in the ledger, teams, audits, contributions"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LEDGER = ("ledger_groups", "ledger_entries")


def upgrade() -> None:
    """Apply."""
    _make_teams()
    _make_audits()
    _make_contributions()
    _widen_the_ledger()
    _make_accounts()
    _forbid_changes()
    # What readers of the journal keep has another form now; they make it anew from the journal.
    for table in ("standings", "earnings"):
        op.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608
    op.execute(sa.text("DELETE FROM cursors WHERE reader IN ('reputation', 'incentives')"))


def downgrade() -> None:
    """Undo."""
    _allow_changes()
    # The older form knows neither escrow nor reversals; what they say cannot be told in it.
    op.execute(sa.text("DELETE FROM ledger_entries"))
    op.execute(sa.text("DELETE FROM ledger_groups"))
    op.drop_table("ledger_accounts")
    for name in ("task_id", "team_id", "at"):
        op.drop_index(op.f(f"ix_ledger_groups_{name}"), table_name="ledger_groups")
    for name in ("terms", "refers_to", "team_id", "task_id", "kind"):
        op.drop_column("ledger_groups", name)
    for table in ("contributors", "round_contributions", "audit_reports", "audits", "team_members", "teams"):
        op.drop_table(table)
    for table in ("standings", "earnings"):
        op.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608
    op.execute(sa.text("DELETE FROM cursors WHERE reader NOT IN ('metrics')"))


def _make_teams() -> None:
    op.create_table(
        "teams",
        sa.Column("team_id", BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("code_digest", sa.String(length=64), nullable=False),
        sa.Column("founder", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["founder"], ["clients.client_id"], name=op.f("fk_teams_founder")),
        sa.PrimaryKeyConstraint("team_id", name=op.f("pk_teams")),
        sa.UniqueConstraint("code_digest", name=op.f("uq_teams_code_digest")),
        sa.UniqueConstraint("name", name=op.f("uq_teams_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "team_members",
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("team_id", BIG_ID, nullable=False),
        sa.Column("joined_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.client_id"], name=op.f("fk_team_members_client_id")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.team_id"], name=op.f("fk_team_members_team_id")),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_team_members")),
    )
    op.create_index(op.f("ix_team_members_team_id"), "team_members", ["team_id"], unique=False)


def _make_audits() -> None:
    op.create_table(
        "audits",
        sa.Column("audit_id", BIG_ID, nullable=False),
        sa.Column("update_id", BIG_ID, nullable=False),
        sa.Column("job_id", BIG_ID, nullable=False),
        sa.Column("round_id", BIG_ID, nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("auditors", sa.Integer(), nullable=False),
        sa.Column("salt", sa.String(length=32), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=False),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.Column("verdict", sa.String(length=20), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["client_id"], ["clients.client_id"], name=op.f("fk_audits_client_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_audits_job_id")),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.round_id"], name=op.f("fk_audits_round_id")),
        sa.ForeignKeyConstraint(["update_id"], ["updates.update_id"], name=op.f("fk_audits_update_id")),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audits")),
        sa.UniqueConstraint("update_id", name=op.f("uq_audits_update_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audits_job_id_closed_at", "audits", ["job_id", "closed_at"], unique=False)
    op.create_index(op.f("ix_audits_round_id"), "audits", ["round_id"], unique=False)
    op.create_index(op.f("ix_audits_client_id"), "audits", ["client_id"], unique=False)
    op.create_table(
        "audit_reports",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("audit_id", BIG_ID, nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("num_samples", sa.BigInteger(), nullable=True),
        sa.Column("base_loss", sa.Double(), nullable=True),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("reported_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["audit_id"], ["audits.audit_id"], name=op.f("fk_audit_reports_audit_id")),
        sa.ForeignKeyConstraint(["client_id"], ["clients.client_id"], name=op.f("fk_audit_reports_client_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.task_id"], name=op.f("fk_audit_reports_task_id")),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_audit_reports")),
        sa.UniqueConstraint("audit_id", "client_id", name=op.f("uq_audit_reports_audit_id_client_id")),
    )


def _make_contributions() -> None:
    op.create_table(
        "round_contributions",
        sa.Column("round_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("job_id", BIG_ID, nullable=False),
        sa.Column("contribution", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("round_id", name=op.f("pk_round_contributions")),
    )
    op.create_table(
        "contributors",
        sa.Column("job_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("importance", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "client_id", name=op.f("pk_contributors")),
    )


def _widen_the_ledger() -> None:
    """Give groups a kind, the work they are for, and their terms; grants get the keys that they have from now on."""
    op.add_column("ledger_groups", sa.Column("kind", sa.String(length=20), nullable=False, server_default="grant"))
    op.add_column("ledger_groups", sa.Column("task_id", sa.String(length=32), nullable=True))
    op.add_column("ledger_groups", sa.Column("team_id", BIG_ID, nullable=True))
    op.add_column("ledger_groups", sa.Column("refers_to", BIG_ID, nullable=True))
    op.add_column("ledger_groups", sa.Column("terms", sa.Text(), nullable=False, server_default="{}"))
    for name in ("at", "task_id", "team_id"):
        op.create_index(op.f(f"ix_ledger_groups_{name}"), "ledger_groups", [name], unique=False)
    op.execute(
        sa.text(
            "UPDATE ledger_groups SET task_id = (SELECT task_id FROM updates WHERE ledger_groups.idempotency_key "
            "= 'update:' || CAST(updates.update_id AS VARCHAR(20)) || ':' || ledger_groups.reason)"
        )
    )
    op.execute(
        sa.text(
            "UPDATE ledger_groups SET idempotency_key = 'grant:' || task_id || ':' || reason WHERE task_id IS NOT NULL"
        )
    )


def _make_accounts() -> None:
    op.create_table(
        "ledger_accounts",
        sa.Column("account", sa.String(length=80), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=True),
        sa.Column("micro_tokens", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("account = 'mint' OR micro_tokens >= 0", name=op.f("ck_ledger_accounts_not_overdrawn")),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_ledger_accounts")),
    )
    op.create_index(op.f("ix_ledger_accounts_client_id"), "ledger_accounts", ["client_id"], unique=False)
    op.execute(
        sa.text(
            "INSERT INTO ledger_accounts (account, client_id, micro_tokens) "
            "SELECT account, CASE WHEN account = 'mint' THEN NULL ELSE substr(account, 8) END, SUM(micro_tokens) "
            "FROM ledger_entries GROUP BY account"
        )
    )


def _forbid_changes() -> None:
    """Let the database itself see to it that the ledger only grows."""
    if op.get_bind().dialect.name == "sqlite":
        for table in LEDGER:
            for act in ("UPDATE", "DELETE"):
                op.execute(
                    sa.text(
                        f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
                        "BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END"
                    )
                )
        return
    op.execute(
        sa.text(
            "CREATE FUNCTION ledger_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'the ledger only grows' USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
    )
    for table in LEDGER:
        for act, each in (("UPDATE OR DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
            name = f"{table}_no_{act.split()[0].lower()}"
            op.execute(
                sa.text(
                    f"CREATE TRIGGER {name} BEFORE {act} ON {table} "
                    f"FOR EACH {each} EXECUTE FUNCTION ledger_only_grows()"
                )
            )


def _allow_changes() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table in LEDGER:
            for act in ("update", "delete"):
                op.execute(sa.text(f"DROP TRIGGER {table}_no_{act}"))
        return
    op.execute(sa.text("DROP FUNCTION ledger_only_grows() CASCADE"))
