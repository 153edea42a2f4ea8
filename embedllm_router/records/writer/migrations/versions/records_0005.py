"""Whose request it was, so that what is kept of a person can be found and erased."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column; records from before have NULL there."""
    op.add_column("requests", sa.Column("user_hash", sa.Text()))


def downgrade() -> None:
    """Removes it, with what it holds."""
    op.drop_column("requests", "user_hash")
