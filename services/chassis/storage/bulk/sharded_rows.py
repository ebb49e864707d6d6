"""Rows that every batch changes, sharded so that no transaction waits for another one's.

A counter in one row is locked from its change to the end of the transaction, and all who count queue there. So each
key has as many rows, told apart by `shard`, as transactions that count at a time: one takes a row that is free
(`FOR UPDATE SKIP LOCKED`) or adds one, and whoever reads takes the sum. SQLite has one writer, and so one shard.
"""

from secrets import randbits
from typing import Any

from sqlalchemy import Connection, Table, and_, select

from services.chassis.storage.bulk.insert import upserting


def lock_free_shard(connection: Connection, table: Table, **key: str) -> int:
    """The number of a shard of `key` that is this transaction's until it ends; a new row has the table's defaults."""
    if connection.dialect.name == "sqlite":
        connection.execute(upserting("sqlite", table).values(**key, shard=0).on_conflict_do_nothing())
        return 0
    same = and_(*(table.c[name] == value for name, value in key.items()))
    free = select(table.c.shard).where(same).order_by(table.c.shard).limit(1).with_for_update(skip_locked=True)
    found: Any = connection.execute(free).scalar()
    if found is None:
        found = randbits(31)
        connection.execute(table.insert().values(**key, shard=found))
    return int(found)
