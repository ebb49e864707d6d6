"""A named lease in the database: who alone may do a thing for now. Knows not what the thing is.

An owner is a process, 'host:pid:start'. What a process of this host held that is gone is free at once: a restart need
not wait for the lease to run out.

No lease lies further ahead than its length: where the clock was set back, whoever meets such a one cuts it, and a live
owner renews it in time.
"""

import os
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Table, select, update

from services.chassis.storage.bulk import insert
from services.chassis.storage.database import clock
from services.chassis.storage.tables import Lease

LEASE: Table = getattr(Lease, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute


def new_owner() -> str:
    """A name for this process that no other bears."""
    return f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"


def vanished(owner: str) -> bool:
    """Whether the owner was a process of this host that runs no more.

    In a container that started anew the old process has our own number.
    """
    host, pid, _ = [*owner.split(":"), "", ""][:3]
    return host == socket.gethostname() and (pid == str(os.getpid()) or not Path(f"/proc/{pid}").exists())


def hold(connection: Connection, name: str, owner: str, seconds: float) -> bool:
    """Takes or renews the lease; False where another owner holds it. Writes only when half of it has passed."""
    now = clock(connection)
    until = now + timedelta(seconds=seconds)
    found = connection.execute(select(LEASE.c.owner, LEASE.c.until).where(LEASE.c.name == name)).first()
    if found is None:
        return _insert(connection, name, owner, until)
    if found.owner == owner and seconds / 2 < (found.until - now).total_seconds() <= seconds:
        return True
    other = found.owner != owner and found.until > now and not vanished(found.owner)
    if other and found.until <= until:
        return False
    values = {"owner": found.owner if other else owner, "until": until}
    same = (LEASE.c.name == name, LEASE.c.owner == found.owner, LEASE.c.until == found.until)
    return connection.execute(update(LEASE).where(*same).values(**values)).rowcount == 1 and not other


def release(connection: Connection, owner: str) -> None:
    """Frees all leases of an owner."""
    connection.execute(LEASE.delete().where(LEASE.c.owner == owner))


def _insert(connection: Connection, name: str, owner: str, until: datetime) -> bool:
    values = {"name": name, "owner": owner, "until": until}
    statement = insert.upserting(connection.dialect.name, LEASE).values(values).on_conflict_do_nothing()
    return connection.execute(statement.returning(LEASE.c.name)).first() is not None
