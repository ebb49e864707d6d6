"""What a signal is about and which word on it it is: the last one counts."""

import json
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "feedback_0002"
down_revision = "feedback_0001"
branch_labels = None
depends_on = None

SIGNAL = sa.table(
    "signal",
    *(sa.column(name, sa.String) for name in ("signal_id", "about")),
    sa.column("number", sa.Integer),
    sa.column("received_at", sa.DateTime(timezone=True)),
    sa.column("body", sa.JSON),
)


def upgrade() -> None:
    op.add_column("signal", sa.Column("about", sa.String, nullable=False, server_default=""))
    op.add_column("signal", sa.Column("number", sa.Integer, nullable=False, server_default="1"))
    connection = op.get_bind()
    said: dict[str, int] = {}
    order = sa.select(SIGNAL.c.signal_id, SIGNAL.c.body).order_by(SIGNAL.c.received_at, SIGNAL.c.signal_id)
    for signal_id, body in connection.execute(order).all():
        what = about(body)
        said[what] = said.get(what, 0) + 1
        row = sa.update(SIGNAL).where(SIGNAL.c.signal_id == signal_id)
        connection.execute(row.values(about=what, number=said[what]))
    op.create_index("signal_last", "signal", ["about", "number"], unique=True)


def about(body: dict[str, Any]) -> str:
    """As services.feedback.domain.signals.about was at this revision."""
    rest = {"correction": [], "comparison": sorted((body.get("chosen") or "", body.get("rejected") or ""))}
    whole = [body["request_id"], body["kind"], *rest.get(body["kind"], [body.get("user")])]
    return sha256(json.dumps(whole).encode()).hexdigest()[:32]


def downgrade() -> None:
    op.drop_index("signal_last", "signal")
    op.drop_column("signal", "number")
    op.drop_column("signal", "about")
