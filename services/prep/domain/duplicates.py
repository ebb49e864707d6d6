"""Drops rows whose normalised content another row has; of equal ones the smallest record_id stays."""

from services.prep.domain.rows import Drop, Row


def partition(rows: list[Row]) -> tuple[list[Row], list[Drop]]:
    """The first row of each content by record_id, and the others with the reason `duplicate`."""
    first: dict[str, str] = {}
    for row in rows:
        known = first.get(row.content)
        first[row.content] = row.record_id if known is None else min(known, row.record_id)
    kept = [row for row in rows if first[row.content] == row.record_id]
    return kept, [
        Drop(row.record_id, "duplicate", first[row.content]) for row in rows if first[row.content] != row.record_id
    ]
