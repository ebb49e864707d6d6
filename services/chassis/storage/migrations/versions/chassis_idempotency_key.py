"""The requests that came under an Idempotency-Key."""

import sqlalchemy as sa
from alembic import op

revision = "chassis_idempotency_key"
down_revision = "chassis_fair_share"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "idempotency_key",
        sa.Column("scope", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_idempotency_key_made_at", "idempotency_key", ["made_at"])


def downgrade() -> None:
    op.drop_table("idempotency_key")
