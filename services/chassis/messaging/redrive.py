"""Takes a redriven message in once more, where the message died in its handler and so stands in the inbox as taken.

With a message's death its letter's id is written down beside its identity. A message whose last header is HEADER with
that id, and which has that identity, uses the note up and is new again, in the transaction that takes it in: so a letter
has one more effect at most, however often it is redriven or delivered, and a forged header has none. Other groups of the
topic know no such note: to them the message is what it was, in most cases a duplicate.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Table, delete, insert

from services.chassis.messaging.inbox import Identity
from services.chassis.messaging.messages import ConsumerRecord, ParsedMessage, dead_letter_id
from services.chassis.storage.tables import Inbox

HEADER = "noria-redrive"
"""`noria dlq redrive` puts it last: the dead letter's id."""
INBOX: Table = getattr(Inbox, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute


def died(connection: Connection, group: str, raw: ConsumerRecord, identity: Identity, now: datetime) -> None:
    """Notes, with the dead letter, that a message of this identity died in its handler."""
    source, id = identity
    row = {"consumer": _died(group, dead_letter_id(raw, group)), "source": source, "id": id, "taken_at": now}
    connection.execute(insert(INBOX).values(row))


def readmit(connection: Connection, group: str, items: Sequence[ParsedMessage]) -> None:
    """Forgets that the redriven messages among `items` were taken, each once a letter; call it before inbox.take."""
    for item in items:
        headers = item.raw.headers
        if headers and headers[-1][0] == HEADER and item.malformed is None:
            dead_letter = (headers[-1][1] or b"").decode("utf-8", "replace")
            if _forget(connection, _died(group, dead_letter), item.identity):
                _forget(connection, group, item.identity)


def _died(group: str, dead_letter: str) -> str:
    """The `consumer` of the note: no consumer group has such a name."""
    return f"{group} dead letter {dead_letter}"


def _forget(connection: Connection, consumer: str, identity: Identity) -> bool:
    source, id = identity
    own = (INBOX.c.consumer == consumer, INBOX.c.id == id, INBOX.c.source == source)
    return connection.execute(delete(INBOX).where(*own)).rowcount == 1
