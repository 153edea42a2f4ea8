"""What the baseline would have cost, so that savings are counted against what was used before."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COLUMNS = (("baseline", sa.Text), ("baseline_p_correct", sa.Double), ("baseline_cost_usd", sa.Double))


def upgrade() -> None:
    """Adds the columns; records from before have NULL there."""
    for name, kind in _COLUMNS:
        op.add_column("requests", sa.Column(name, kind()))


def downgrade() -> None:
    """Removes them, with what they hold."""
    for name, _ in _COLUMNS:
        op.drop_column("requests", name)
