"""Which artifacts a service's rows still name, page by page. Reads columns as text and knows no event.

Every 64 lower-case hexadecimal digits count as a reference to the artifact of that SHA-256: so a field that this version
does not know yet keeps its artifact, too, and a digest of something else keeps nothing that is there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Integer, LargeBinary, Table, Text, cast, or_, select, tuple_

from services.chassis.messaging.outbox import OUTBOX
from services.chassis.messaging.parking import PARKED
from services.chassis.retention.pruning import JOB

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ArtifactReference:
    """Rows that name artifacts in `columns` (JSON, text or bytes).

    Where `condition` holds they do so for good. The others do so for NORIA_ARTIFACT_DAYS after `since`, or for good where
    that is 0 or there is no `since`.
    """

    table: Table
    columns: tuple[Column[Any], ...]
    since: Column[Any] | None = None
    condition: ColumnElement[bool] | None = None


CHASSIS = (
    ArtifactReference(OUTBOX, (OUTBOX.c.value,)),
    ArtifactReference(PARKED, (PARKED.c.value,)),
    ArtifactReference(JOB, tuple(column for column in JOB.c if column.name in ("spec", "progress", "checkpoint"))),
)
"""Events on their way, messages that will be tried again, and jobs with their checkpoints, as long as their rows are kept."""


def digests(text: str) -> set[str]:
    """The SHA-256 digests that stand in a text."""
    return set(DIGEST.findall(text))


def page(
    connection: Connection,
    references: Sequence[ArtifactReference],
    after: Sequence[Any] | None,
    limit: int,
    days: float,
    now: datetime,
) -> tuple[set[str], list[Any] | None]:
    """The digests that up to `limit` rows name, and the place behind them; None at the end.

    A place is [number of the table, primary key ...]; tables are gone through in their order.
    """
    number, *key = after or [0]
    if number >= len(references):
        return set(), None
    rows = connection.execute(_query(references[number], key, limit, days, now)).all()
    width = len(references[number].table.primary_key.columns)
    found = {digest for row in rows for cell in row[width:] for digest in digests(_text(cell))}
    if len(rows) == limit:
        return found, [number, *rows[-1][:width]]
    return found, [number + 1] if number + 1 < len(references) else None


def fits(references: Sequence[ArtifactReference], place: Sequence[Any]) -> bool:
    """Whether a place that came from outside is one in these tables."""
    number, *key = place
    if type(number) is not int or not 0 <= number < len(references):
        return False
    key_columns = references[number].table.primary_key.columns
    kinds = [int if isinstance(column.type, Integer) else str for column in key_columns]
    return not key or [type(part) for part in key] == kinds


def _query(reference: ArtifactReference, after: Sequence[Any], limit: int, days: float, now: datetime) -> Any:
    key = list(reference.table.primary_key.columns)
    binary = [isinstance(column.type, LargeBinary) for column in reference.columns]
    values = [column if raw else cast(column, Text) for column, raw in zip(reference.columns, binary, strict=True)]
    query = select(*key, *values).order_by(*key).limit(limit)
    if after:
        query = query.where(tuple_(*key) > tuple(after))
    if days and reference.since is not None:
        young = reference.since > now - timedelta(days=days)
        query = query.where(young if reference.condition is None else or_(reference.condition, young))
    return query


def _text(cell: Any) -> str:
    return bytes(cell).decode("latin-1") if isinstance(cell, bytes | memoryview) else str(cell or "")
