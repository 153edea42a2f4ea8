"""Answers that judged evaluation got from other LLMs, which no user's request is."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "judged_for": sa.Text(),
    "judging": sa.Text(),
    "judging_share": sa.Double(),
    "judge": sa.Text(),
    "judge_score": sa.Double(),
    "judge_score_served": sa.Double(),
    "judge_reversed": sa.Boolean(),
    "judging_usd": sa.Double(),
}


def upgrade() -> None:
    """Adds the columns; users' requests have NULL there."""
    for name, kind in _COLUMNS.items():
        op.add_column("requests", sa.Column(name, kind))


def downgrade() -> None:
    """Removes them, with the answers that would then pass for users' requests."""
    op.execute("DELETE FROM requests WHERE judged_for IS NOT NULL")
    for name in _COLUMNS:
        op.drop_column("requests", name)
