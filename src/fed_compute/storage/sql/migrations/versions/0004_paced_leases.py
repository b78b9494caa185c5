"""paced leases: soft deadlines, standstill, rounds that wait for clients"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("rounds", sa.Column("soft_seconds", sa.Double(), nullable=True))
    op.add_column("rounds", sa.Column("gathering_since", sa.Double(), nullable=True))
    op.add_column("tasks", sa.Column("progress_at", sa.Double(), nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("soft_deadline", sa.Double(), nullable=True))
    op.execute(sa.text("UPDATE tasks SET progress_at = leased_at"))


def downgrade() -> None:
    """Undo."""
    op.execute(sa.text("UPDATE tasks SET state = 'late' WHERE state = 'overdue'"))
    for table, column in (
        ("tasks", "soft_deadline"),
        ("tasks", "progress_at"),
        ("rounds", "gathering_since"),
        ("rounds", "soft_seconds"),
    ):
        op.drop_column(table, column)
