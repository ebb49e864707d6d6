"""Which messages were taken before, by (consumer group, ce_id, ce_source). Knows no message."""

from collections.abc import Sequence
from datetime import datetime

from pydantic_core import to_json
from sqlalchemy import Connection

from services.chassis.bulk import moment

Identity = tuple[str, str]
"""(ce_source, ce_id)."""

_SQLITE = """
INSERT INTO inbox (consumer, source, id, taken_at)
SELECT ?1, json_extract(value, '$[0]'), json_extract(value, '$[1]'), ?2 FROM json_each(?3) WHERE true
ON CONFLICT DO NOTHING RETURNING source, id
"""
_POSTGRESQL = """
INSERT INTO inbox (consumer, source, id, taken_at)
SELECT %(consumer)s, source, id, %(moment)s FROM unnest(%(sources)s::text[], %(ids)s::text[]) AS new (source, id)
ON CONFLICT DO NOTHING RETURNING source, id
"""


def take(connection: Connection, consumer: str, identities: Sequence[Identity], now: datetime) -> set[Identity]:
    """Marks messages as taken, in the caller's transaction; gives those that had not been taken before."""
    when = moment(connection, now)
    if connection.dialect.name == "sqlite":
        new = connection.exec_driver_sql(_SQLITE, (consumer, when, to_json(identities).decode()))
    else:
        sources, ids = [source for source, _ in identities], [id for _, id in identities]
        values = {"consumer": consumer, "moment": when, "sources": sources, "ids": ids}
        new = connection.exec_driver_sql(_POSTGRESQL, values)
    return {(source, id) for source, id in new}
