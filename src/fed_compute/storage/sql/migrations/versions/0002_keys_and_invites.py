"""keys and invites"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FIRST_LABEL = "operator.key"


def upgrade() -> None:
    """Apply."""
    op.add_column("clients", sa.Column("state", sa.String(length=20), nullable=False, server_default="active"))
    op.add_column("clients", sa.Column("state_reason", sa.Text(), nullable=True))
    op.add_column("clients", sa.Column("invite_id", sa.String(length=16), nullable=True))
    op.add_column("clients", sa.Column("rounds_per_day", sa.Integer(), nullable=True))
    op.create_index(op.f("ix_clients_invite_id"), "clients", ["invite_id"], unique=False)
    op.add_column("api_keys", sa.Column("label", sa.String(length=80), nullable=False, server_default=""))
    op.add_column("api_keys", sa.Column("expires_at", sa.Double(), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", sa.Double(), nullable=True))
    op.add_column("api_keys", sa.Column("rotated_to", sa.String(length=16), nullable=True))
    # Until now an operator's key was always the one in the data folder's file.
    op.execute(f"UPDATE api_keys SET label = '{FIRST_LABEL}' WHERE scope = 'operator'")  # noqa: S608 - a constant
    op.create_table(
        "invites",
        sa.Column("invite_id", sa.String(length=16), nullable=False),
        sa.Column("secret_hmac", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=80), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(length=16), nullable=True),
        sa.Column("inviter", sa.String(length=64), nullable=True),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("rounds_per_day", sa.Integer(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.CheckConstraint("used >= 0 AND used <= uses", name=op.f("ck_invites_within_uses")),
        sa.ForeignKeyConstraint(["inviter"], ["clients.client_id"], name=op.f("fk_invites_inviter")),
        sa.PrimaryKeyConstraint("invite_id", name=op.f("pk_invites")),
    )
    op.create_index(op.f("ix_invites_inviter"), "invites", ["inviter"], unique=False)
    op.create_table(
        "spent_challenges",
        sa.Column("challenge_id", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("challenge_id", name=op.f("pk_spent_challenges")),
    )
    op.create_index(op.f("ix_spent_challenges_expires_at"), "spent_challenges", ["expires_at"], unique=False)


def downgrade() -> None:
    """Undo."""
    op.drop_table("spent_challenges")
    op.drop_table("invites")
    for column in ("rotated_to", "last_used_at", "expires_at", "label"):
        op.drop_column("api_keys", column)
    op.drop_index(op.f("ix_clients_invite_id"), table_name="clients")
    for column in ("rounds_per_day", "invite_id", "state_reason", "state"):
        op.drop_column("clients", column)
