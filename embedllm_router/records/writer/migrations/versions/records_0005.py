"""Whose request it was, so that what is kept of a person can be erased; what it asked for and waited for."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TEXTS = ("user_hash", "service_tier")


def upgrade() -> None:
    """Adds the columns; records from before have NULL there."""
    for name in _TEXTS:
        op.add_column("requests", sa.Column(name, sa.Text()))
    op.add_column("requests", sa.Column("total_ms", sa.Double()))
    op.add_column("requests", sa.Column("failed_attempts", sa.ARRAY(sa.Text())))


def downgrade() -> None:
    """Removes them, with what they hold."""
    for name in (*_TEXTS, "total_ms", "failed_attempts"):
        op.drop_column("requests", name)
