"""leases by deadline: of live ones only, so that the state of a task is no way to find the others"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_LIVE = sa.text("state = 'leased'")


def upgrade() -> None:
    """Apply."""
    op.drop_index("ix_tasks_state_deadline", "tasks")
    op.create_index("ix_tasks_live_deadline", "tasks", ["deadline"], sqlite_where=_LIVE, postgresql_where=_LIVE)


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_tasks_live_deadline", "tasks")
    op.create_index("ix_tasks_state_deadline", "tasks", ["state", "deadline"])
