"""The table of segments, and which of a project's records lie in which: SQL over a connection. Decides nothing.

A record's row stays when its content goes to a segment: the rows are the index, and a new revision brings its row back to the
tail, the rows without a segment, so that what is newest never has to be searched for in files.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from contracts.types import ArtifactRef
from services.prep.batches import sized
from services.prep.domain.compaction import Segment
from services.prep.tables import RECORD, SEGMENT

TAIL = RECORD.c.segment.is_(None)
FIELDS = ("record_id", "revision", "format", "record", "tags", "subject", "accepted_at")
KEPT = ("shape", "sent")
"""What no freeze reads and a segment keeps."""
PLACE = ("shard", "sequence")


def segments(connection: Connection, project: str) -> list[Segment]:
    """The project's segments by number, with how many of their rows are still newest."""
    held = select(RECORD.c.segment, func.count()).where(RECORD.c.project == project, ~TAIL).group_by(RECORD.c.segment)
    live: dict[int, int] = {row[0]: row[1] for row in connection.execute(held)}
    rows = connection.execute(select(SEGMENT).where(SEGMENT.c.project == project).order_by(SEGMENT.c.number)).mappings()
    return [
        Segment(
            row["number"],
            ArtifactRef.model_validate(row["artifact"]),
            row["rows"],
            row["size"],
            live.get(row["number"], 0),
        )
        for row in rows
    ]


def held(connection: Connection, project: str, number: int) -> list[str]:
    """The ids of the records whose newest revision lies in the segment."""
    own = select(RECORD.c.record_id).where(RECORD.c.project == project, RECORD.c.segment == number)
    return list(connection.execute(own).scalars())


def tail_rows(connection: Connection, project: str) -> int:
    """How many records lie in no segment."""
    return connection.execute(select(func.count()).where(RECORD.c.project == project, TAIL)).scalar_one()


def tail(connection: Connection, project: str) -> Iterator[list[Any]]:
    """The records that lie in no segment, `FIELDS`, `KEPT` and `PLACE` of each, in the order of their places."""
    names = (*FIELDS, *KEPT, *PLACE)
    own = select(*(RECORD.c[name] for name in names)).where(RECORD.c.project == project, TAIL)
    found = connection.execution_options(stream_results=True).execute(own.order_by(*(RECORD.c[n] for n in PLACE)))
    yield from sized(found)


def take_in(connection: Connection, project: str, made: Sequence[Mapping[str, Any]], gone: Sequence[int]) -> None:
    """Has the records lie in new segments, and forgets the segments `gone`.

    Each of `made` has `artifact`, `rows`, `size` and either `of`, the numbers of the segments whose live rows it holds, or
    `taken`: shard -> first and last sequence of the tail's rows that it holds. A row that changed since has a later sequence and
    no segment, so that it stays as it is.
    """
    newest = connection.execute(select(func.max(SEGMENT.c.number)).where(SEGMENT.c.project == project)).scalar() or 0
    for number, one in enumerate(made, newest + 1):
        values = {name: one[name] for name in ("artifact", "rows", "size")}
        connection.execute(insert(SEGMENT).values(project=project, number=number, **values))
        moved = update(RECORD).where(RECORD.c.project == project)
        if "of" in one:
            connection.execute(moved.where(RECORD.c.segment.in_(one["of"])).values(segment=number))
            continue
        places = or_(
            *(
                and_(RECORD.c.shard == int(shard), RECORD.c.sequence.between(first, last))
                for shard, (first, last) in one["taken"].items()
            )
        )
        connection.execute(moved.where(TAIL, places).values(segment=number, record="", sent=None))
    if gone:
        connection.execute(delete(SEGMENT).where(SEGMENT.c.project == project, SEGMENT.c.number.in_(gone)))
