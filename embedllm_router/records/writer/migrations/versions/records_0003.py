"""Whose request it was, so that others give no feedback on it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column; records from before have NULL there."""
    op.add_column("requests", sa.Column("key_hash", sa.Text()))


def downgrade() -> None:
    """Removes it, with what it holds."""
    op.drop_column("requests", "key_hash")
