"""paused jobs: how much time a round has left"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("rounds", sa.Column("left_seconds", sa.Double(), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("rounds", "left_seconds")
