"""When predictions were last wanted, so that they are forgotten; a project's newest evaluations by an index."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "evaluator_0003"
down_revision = "evaluator_0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
PREDICTIONS = sa.table("predictions", sa.column("used_at", MOMENT))


def upgrade() -> None:
    op.add_column("predictions", sa.Column("used_at", MOMENT, nullable=False, server_default="1970-01-01 00:00:00"))
    op.execute(sa.update(PREDICTIONS).values(used_at=datetime.now(UTC)))
    op.create_index("predictions_used", "predictions", ["used_at"])
    op.create_index("evaluation_newest_of", "evaluation", ["project", "created_at", "evaluation_id"])
    op.drop_index("ix_evaluation_project", "evaluation")


def downgrade() -> None:
    op.create_index("ix_evaluation_project", "evaluation", ["project"])
    op.drop_index("evaluation_newest_of", "evaluation")
    op.drop_index("predictions_used", "predictions")
    op.drop_column("predictions", "used_at")
