"""Events of the outbox that Kafka refused for good: a page of them; sent again or given up, each once. Sends nothing itself."""

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, func, select, update

from contracts.envelope import named_project
from contracts.events.console import OutboxSettledV1
from services.chassis.messaging.outbox import OUTBOX, unpack_headers

Action = Literal["retried", "discarded"]
REFUSED = OUTBOX.c.status == "failed"
SHOWN = ("id", "topic", "key", "headers", "reason", "created_at")


def listing(connection: Connection, topic: str | None, after: int, limit: int) -> list[dict[str, Any]]:
    """The refused events after a number, oldest first, without their values."""
    columns = (*(OUTBOX.c[name] for name in SHOWN), func.coalesce(func.length(OUTBOX.c.value), 0).label("bytes"))
    query = select(*columns).where(REFUSED, OUTBOX.c.id > after)
    if topic is not None:
        query = query.where(OUTBOX.c.topic == topic)
    return [_described(row) for row in connection.execute(query.order_by(OUTBOX.c.id).limit(limit))]


def resolve(
    connection: Connection, numbers: Sequence[int], action: Action, service: str, by: str, why: str
) -> list[OutboxSettledV1]:
    """Lets the relay publish the refused events of these numbers again, or deletes them; one event of the audit for each.

    Those that are not refused, as they were resolved meanwhile, are left as they are and have none.
    """
    query = select(*(OUTBOX.c[name] for name in (*SHOWN, "value"))).where(REFUSED, OUTBOX.c.id.in_(numbers))
    rows = connection.execute(query.order_by(OUTBOX.c.id).with_for_update()).all()
    if not rows:
        return []
    meant = OUTBOX.c.id.in_([row.id for row in rows])
    if action == "retried":
        connection.execute(update(OUTBOX).where(meant).values(status="pending", reason=None))
    else:
        connection.execute(delete(OUTBOX).where(meant))
    return [_settled(row, action, service, by, why) for row in rows]


def _described(row: Row[Any]) -> dict[str, Any]:
    return {
        "number": row.id,
        "topic": row.topic,
        "key": _text(row.key),
        "event": _id(row),
        "bytes": row.bytes,
        "reason": row.reason,
        "created_at": row.created_at,
    }


def _settled(row: Row[Any], action: Action, service: str, by: str, why: str) -> OutboxSettledV1:
    return OutboxSettledV1(
        project=named_project(row.value),
        service=service,
        number=row.id,
        action=action,
        by=by,
        reason=why,
        topic=row.topic,
        event_key=_text(row.key),
        event=_id(row),
        refusal=row.reason or "",
    )


def _id(row: Row[Any]) -> str:
    return _text(dict(unpack_headers(row.headers)).get("ce_id")) or ""


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else bytes(raw).decode("utf-8", "replace")
