"""Which messages were taken before, by (consumer group, ce_id, ce_source). Knows no message."""

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import Connection, Table

from services.chassis.bulk import among, insert, moment
from services.chassis.tables import Inbox

INBOX: Table = getattr(Inbox, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute
COLUMNS = ("consumer", "source", "id", "taken_at")
Identity = tuple[str, str]
"""(ce_source, ce_id)."""


def known(connection: Connection, consumer: str, identities: Collection[Identity]) -> set[Identity]:
    """Those of `identities` that were taken before."""
    if not identities:
        return set()
    condition, ids = among(connection, "id", {id for _, id in identities})
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    query = f"SELECT source, id FROM inbox WHERE consumer = {mark} AND {condition}"  # noqa: S608 - no value stands in it
    return {(source, id) for source, id in connection.exec_driver_sql(query, (consumer, ids))}


def take(connection: Connection, consumer: str, identities: Iterable[Identity], now: datetime) -> None:
    """Marks messages as taken, in the caller's transaction."""
    when = moment(connection, now)
    insert(connection, INBOX, COLUMNS, [(consumer, source, id, when) for source, id in identities])
