"""What an Idempotency-Key stands for: the request that first came with it, its body included, for KEPT.

A request sent again under its key is the same request and is answered as such; another body under the key is refused.
Source: draft-ietf-httpapi-idempotency-key-header, "The Idempotency-Key HTTP Header Field".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import Header
from sqlalchemy import delete, tuple_
from sqlmodel import Session, col, select

from contracts.canonical import digest
from contracts.envelope import Event
from services.chassis.http.application import ApiError
from services.chassis.storage.store import ChassisStore
from services.chassis.storage.tables import IdempotencyKey

KEPT = timedelta(hours=24)
"""A key may be used for something else after this."""
FORGOTTEN_AT_ONCE = 10_000

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=1000,
        description="Sent again within 24 hours with the same key and body, the request has no second effect.",
    ),
]
"""A route's parameter; empty or absent, the request stands for itself alone."""


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request under a key. `scope` is what keys are told apart in, e.g. a caller; `body` a digest of the body."""

    scope: str
    key: str
    body: str


def recall(session: Session, request: KeyedRequest, now: datetime) -> str | None:
    """What `remember` kept for the request; None where the key is new.

    Raises:
        ApiError: 422 where the key came with another body.
    """
    row = session.get(IdempotencyKey, (request.scope, digest(request.key)))
    if row is not None and row.made_at < now - KEPT:
        session.delete(row)
        session.flush()
        row = None
    if row is not None and row.body != request.body:
        message = (
            f"Idempotency-Key {request.key[:80]!r} came with another body before; send this body with a new key."
            " Of what was taken already nothing is taken twice"
        )
        raise ApiError(422, "idempotency_key_reused", message)
    return None if row is None else row.outcome


def remember(session: Session, request: KeyedRequest, outcome: str, now: datetime) -> None:
    """Binds the key to the request and what came of it, in the transaction of its effect.

    Raises:
        IntegrityError: the same key came at the same moment; done again, `recall` sees it (as Context.transact does).
    """
    row = IdempotencyKey(scope=request.scope, key=digest(request.key), body=request.body, outcome=outcome, made_at=now)
    session.add(row)
    session.flush()


def forget(store: ChassisStore, now: datetime) -> Iterable[Event]:
    """Removes keys older than KEPT, at most FORGOTTEN_AT_ONCE: a timer's function."""
    names = (col(IdempotencyKey.scope), col(IdempotencyKey.key))
    old: Any = select(*names).where(col(IdempotencyKey.made_at) < now - KEPT).limit(FORGOTTEN_AT_ONCE)
    store.session.connection().execute(delete(IdempotencyKey).where(tuple_(*names).in_(old)))
    return ()
