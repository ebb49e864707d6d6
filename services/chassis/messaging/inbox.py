"""Which messages were taken before, by (consumer group, ce_id, ce_source), and a digest of what they held."""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, cast

from pydantic_core import to_json
from sqlalchemy import Connection

from contracts.canonical import canonical, content
from services.chassis.storage.bulk.insert import moment

Identity = tuple[str, str]
"""(ce_source, ce_id)."""


def digest(topic: str, value: bytes | None) -> int:
    """Topic and body in 32 bits each, as every database's whole number. Equal for equal JSON, however it is written."""
    return _topic(topic) + int.from_bytes(blake2b(_content(value or b""), digest_size=4).digest())


def _content(value: bytes) -> bytes:
    """The event's data in canonical JSON, the same in binary and structured mode; what is no JSON as it is."""
    try:
        data = content(value)
        if isinstance(data, dict) and "specversion" in data and "data" in data:  # structured mode: no event has both
            data = cast(dict[str, Any], data)["data"]
        return canonical(data).encode()
    except (ValueError, RecursionError):
        return value


@lru_cache(maxsize=256)
def _topic(topic: str) -> int:
    # `person` tells these digests from those that were made otherwise before: they are not comparable.
    return int.from_bytes(blake2b(topic.encode(), digest_size=4, person=b"canonical-3").digest(), signed=True) << 32


def conflict(known: int | None, new: int | None) -> bool:
    """Whether an id came again in its topic with another body. In another topic it is another version of the fact."""
    return known is not None and new is not None and known != new and known >> 32 == new >> 32


_SQLITE = """
INSERT INTO inbox (consumer, source, id, taken_at, digest)
SELECT ?1, json_extract(value, '$[0]'), json_extract(value, '$[1]'), ?2, json_extract(value, '$[2]')
FROM json_each(?3) WHERE true
ON CONFLICT DO NOTHING RETURNING source, id
"""
_POSTGRESQL = """
INSERT INTO inbox (consumer, source, id, taken_at, digest)
SELECT %(consumer)s, source, id, %(moment)s, digest
FROM unnest(%(sources)s::text[], %(ids)s::text[], %(digests)s::bigint[]) AS new (source, id, digest)
ON CONFLICT DO NOTHING RETURNING source, id
"""


_SQLITE_DIGESTS = """
SELECT inbox.source, inbox.id, inbox.digest FROM json_each(?2) AS known JOIN inbox ON inbox.consumer = ?1
AND inbox.source = json_extract(known.value, '$[0]') AND inbox.id = json_extract(known.value, '$[1]')
"""
_POSTGRESQL_DIGESTS = """
SELECT source, id, digest FROM inbox JOIN unnest(%(sources)s::text[], %(ids)s::text[]) AS known (source, id)
USING (source, id) WHERE consumer = %(consumer)s
"""


def take(
    connection: Connection, consumer: str, messages: Mapping[Identity, int | None], now: datetime
) -> set[Identity]:
    """Marks messages as taken, with their digests, in the caller's transaction; gives those not taken before."""
    when = moment(connection, now)
    if connection.dialect.name == "sqlite":
        rows = to_json([(source, id, body) for (source, id), body in messages.items()]).decode()
        new = connection.exec_driver_sql(_SQLITE, (consumer, when, rows))
    else:
        values = {"consumer": consumer, "moment": when, **_columns(messages), "digests": list(messages.values())}
        new = connection.exec_driver_sql(_POSTGRESQL, values)
    return {(source, id) for source, id in new}


def digests(connection: Connection, consumer: str, known: Collection[Identity]) -> dict[Identity, int | None]:
    """The digests of messages taken before; None where the row is older than this column."""
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql(_SQLITE_DIGESTS, (consumer, to_json(list(known)).decode()))
    else:
        found = connection.exec_driver_sql(_POSTGRESQL_DIGESTS, {"consumer": consumer, **_columns(known)})
    return {(source, id): body for source, id, body in found}


def _columns(identities: Collection[Identity]) -> dict[str, list[str]]:
    return {"sources": [source for source, _ in identities], "ids": [id for _, id in identities]}
