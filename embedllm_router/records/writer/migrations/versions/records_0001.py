"""The tables of requests and feedback, as they first were."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes both tables and their indexes."""
    _requests()
    _feedback()


def downgrade() -> None:
    """Removes both, with every record in them."""
    op.drop_table("feedback")
    op.drop_table("requests")


def _requests() -> None:
    op.create_table(
        "requests",
        sa.Column("at", TIMESTAMP(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("virtual_model", sa.Text()),
        sa.Column("call_type", sa.Text()),
        sa.Column("key_alias", sa.Text()),
        sa.Column("team_alias", sa.Text()),
        sa.Column("artifact", sa.Text()),
        sa.Column("encoder", sa.Text()),
        sa.Column("generation", sa.BigInteger()),
        sa.Column("arm", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("failed_open", sa.Text()),
        sa.Column("objective_from", sa.Text()),
        sa.Column("cost_weight", sa.Double()),
        sa.Column("min_p_correct", sa.Double()),
        sa.Column("within", sa.Double()),
        sa.Column("max_cost_usd", sa.Double()),
        sa.Column("floor_met", sa.Boolean()),
        sa.Column("chosen", sa.Text()),
        sa.Column("llm", sa.Text()),
        sa.Column("p_correct", sa.Double()),
        sa.Column("expected_output_tokens", sa.Double()),
        sa.Column("expected_cost_usd", sa.Double()),
        sa.Column("utility", sa.Double()),
        sa.Column("propensity", sa.Double()),
        sa.Column("runner_up", sa.Text()),
        sa.Column("likeliest", sa.Text()),
        sa.Column("likeliest_p_correct", sa.Double()),
        sa.Column("likeliest_cost_usd", sa.Double()),
        sa.Column("cheapest", sa.Text()),
        sa.Column("cheapest_p_correct", sa.Double()),
        sa.Column("cheapest_cost_usd", sa.Double()),
        sa.Column("candidates", JSONB()),
        sa.Column("category", sa.Text()),
        sa.Column("prompt_chars", sa.BigInteger()),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("max_output_tokens", sa.BigInteger()),
        sa.Column("needs", ARRAY(sa.Text())),
        sa.Column("prompt_hash", sa.Text()),
        sa.Column("prompt", sa.Text()),
        sa.Column("embedding", sa.Text()),
        sa.Column("encode_ms", sa.Double()),
        sa.Column("score_ms", sa.Double()),
        sa.Column("decide_ms", sa.Double()),
        sa.Column("route_ms", sa.Double()),
        sa.Column("shadow_artifact", sa.Text()),
        sa.Column("shadow_chosen", sa.Text()),
        sa.Column("shadow_p_correct", sa.Double()),
        sa.Column("shadow_cost_usd", sa.Double()),
        sa.Column("status", sa.Text()),
        sa.Column("served", sa.Text()),
        sa.Column("fallback", sa.Boolean()),
        sa.Column("served_p_correct", sa.Double()),
        sa.Column("error", sa.Text()),
        sa.Column("response_id", sa.Text()),
        sa.Column("billed_input_tokens", sa.BigInteger()),
        sa.Column("billed_output_tokens", sa.BigInteger()),
        sa.Column("billed_cost_usd", sa.Double()),
        sa.Column("latency_ms", sa.Double()),
        sa.PrimaryKeyConstraint("at", "request_id"),
    )
    op.create_index("requests_at", "requests", ["at"])
    op.create_index("requests_response_id", "requests", ["response_id"])


def _feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("at", TIMESTAMP(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("score", sa.Double()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key_alias", sa.Text()),
        sa.PrimaryKeyConstraint("at", "request_id", "source"),
    )
    op.create_index("feedback_at", "feedback", ["at"])
