"""the journal of one client: found by an index"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_journal_client_id_seq", "journal", ["client_id", "seq"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_journal_client_id_seq", "journal")
