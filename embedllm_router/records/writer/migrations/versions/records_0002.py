"""What decided near ties, waiting and exploration; how novel prompts are."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NUMBERS = (
    "latency_weight",
    "near_tie_margin",
    "exploration_epsilon",
    "exploration_max_loss",
    "exploration_max_extra_usd",
    "exploration_spread",
    "novelty",
    "hedge",
)


def upgrade() -> None:
    """Adds the columns; records from before have NULL there."""
    for name in _NUMBERS:
        op.add_column("requests", sa.Column(name, sa.Double()))
    op.add_column("requests", sa.Column("exploration", sa.Text()))


def downgrade() -> None:
    """Removes them, with what they hold."""
    for name in (*_NUMBERS, "exploration"):
        op.drop_column("requests", name)
