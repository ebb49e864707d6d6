"""What feedback keeps: requests that the gateway answered, and signals with their state. Decides nothing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from sqlalchemy import and_, or_
from sqlmodel import Session, col, select

from contracts.types import ModelRef
from services.chassis.retention.pruning import Horizon
from services.chassis.storage.projects import Projects
from services.chassis.storage.store import ChassisStore
from services.feedback.domain.records import Request
from services.feedback.domain.signals import Signal, about
from services.feedback.examples_store import Examples, SqlExamples
from services.feedback.examples_store import horizons as of_examples
from services.feedback.tables import RequestRow, SignalRow, table_of

Status = Literal["waiting", "recorded", "refused"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A signal and what became of it. `detail` says why where it was refused.

    `number` counts the signals about the same from 1: the greatest is the last word.
    """

    signal: Signal
    received_at: datetime
    status: Status = "waiting"
    project: str | None = None
    record_id: str | None = None
    reason: str | None = None
    detail: str | None = None
    number: int = 1


class Store(Protocol):
    """What handlers and HTTP ask for, within one transaction."""

    @property
    def projects(self) -> Projects:
        """The projects feedback knows."""
        ...

    @property
    def examples(self) -> Examples:
        """Examples and opinions."""
        ...

    def request(self, request_id: str) -> Request | None:
        """The request, or None where its record has not arrived or is no longer kept."""
        ...

    def outputs(self, request_ids: Sequence[str]) -> dict[str, str]:
        """What was answered, of those requests that are still kept."""
        ...

    def last_of(self, project: str, conversation: str) -> str | None:
        """The id of a conversation's last answered request, or None where nothing is known of it."""
        ...

    def remember(self, request: Request, completed_at: datetime) -> None:
        """Keeps a request."""
        ...

    def entry(self, signal_id: str) -> Entry | None:
        """The signal, or None."""
        ...

    def last_about(self, signal: Signal) -> Entry | None:
        """The last word on what the signal is about, or None."""
        ...

    def put(self, entry: Entry) -> None:
        """Keeps a signal's state, a new one or in place of its older one."""
        ...

    def waiting_for(self, request_id: str) -> Sequence[Entry]:
        """Signals that wait for a request, those about the same in the order in which they were said."""
        ...

    def waiting_since(self, before: datetime, limit: int) -> Sequence[Entry]:
        """Signals that have waited since before a moment, those about the same in the order in which they were said."""
        ...

    def waiting_with_request(self, limit: int) -> Sequence[Entry]:
        """Signals that wait though their request is there, those about the same in the order in which they were said."""
        ...

    def newest(self, request_id: str | None, after: Sequence[Any] | None, limit: int) -> Sequence[Entry]:
        """Signals, newest first, from the place (received_at, signal_id) on."""
        ...


class SqlStore(ChassisStore):
    """`Store` in the service's database."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.examples = SqlExamples(session)

    def request(self, request_id: str) -> Request | None:
        """The request, or None where its record has not arrived or is no longer kept."""
        row = self.session.get(RequestRow, request_id)
        if row is None:
            return None
        body = dict(row.body)
        model, messages = ModelRef.model_validate(body.pop("model")), body.pop("messages")
        body |= {"messages": None if messages is None else tuple(messages), "conversation": row.conversation}
        return Request(row.request_id, model=model, **body)

    def outputs(self, request_ids: Sequence[str]) -> dict[str, str]:
        """What was answered, of those requests that are still kept."""
        rows = self.session.exec(select(RequestRow).where(col(RequestRow.request_id).in_(request_ids)))
        return {row.request_id: row.body["output"] for row in rows}

    def last_of(self, project: str, conversation: str) -> str | None:
        """The id of a conversation's last answered request, or None where nothing is known of it."""
        of = (RequestRow.project == project, RequestRow.conversation == conversation)
        newest = (col(RequestRow.completed_at).desc(), col(RequestRow.request_id).desc())
        return self.session.exec(select(RequestRow.request_id).where(*of).order_by(*newest).limit(1)).first()

    def remember(self, request: Request, completed_at: datetime) -> None:
        """Keeps a request."""
        body = {
            "project": request.project,
            "model": request.model.model_dump(),
            "messages": None if request.messages is None else [dict(m) for m in request.messages],
            "prompt": request.prompt,
            "output": request.output,
            **({"prompt_variables": dict(request.prompt_variables)} if request.prompt_variables else {}),
            **({"teacher": request.teacher} if request.teacher else {}),
        }
        place = {"project": request.project, "conversation": request.conversation}
        self.session.merge(RequestRow(request_id=request.request_id, completed_at=completed_at, body=body, **place))
        self.session.flush()

    def entry(self, signal_id: str) -> Entry | None:
        """The signal, or None."""
        row = self.session.get(SignalRow, signal_id)
        return None if row is None else _entry(row)

    def last_about(self, signal: Signal) -> Entry | None:
        """The last word on what the signal is about, or None."""
        same = select(SignalRow).where(SignalRow.about == about(signal))
        row = self.session.exec(same.order_by(col(SignalRow.number).desc()).limit(1)).first()
        return None if row is None else _entry(row)

    def put(self, entry: Entry) -> None:
        """Keeps a signal's state, a new one or in place of its older one."""
        state = {f.name: getattr(entry, f.name) for f in fields(entry) if f.name != "signal"}
        ids = {"signal_id": entry.signal.signal_id, "request_id": entry.signal.request_id}
        self.session.merge(SignalRow(**ids, **state, about=about(entry.signal), body=asdict(entry.signal)))
        self.session.flush()

    def waiting_for(self, request_id: str) -> Sequence[Entry]:
        """Signals that wait for a request, those about the same in the order in which they were said."""
        return self._waiting(select(SignalRow).where(SignalRow.request_id == request_id))

    def waiting_since(self, before: datetime, limit: int) -> Sequence[Entry]:
        """Signals that have waited since before a moment, those about the same in the order in which they were said."""
        return self._waiting(select(SignalRow).where(col(SignalRow.received_at) < before).limit(limit))

    def waiting_with_request(self, limit: int) -> Sequence[Entry]:
        """Signals that wait though their request is there, those about the same in the order in which they were said."""
        both = select(SignalRow).join(RequestRow, col(RequestRow.request_id) == col(SignalRow.request_id))
        return self._waiting(both.limit(limit))

    def _waiting(self, query: Any) -> list[Entry]:
        """Those that wait; locked, since another instance's timer looks for the same and shall not settle them too."""
        waiting = query.where(SignalRow.status == "waiting").with_for_update(of=SignalRow)
        # By number first: a clock that was set back between two words about the same must not turn them round.
        said = waiting.order_by(col(SignalRow.number), col(SignalRow.received_at), col(SignalRow.signal_id))
        return [_entry(row) for row in self.session.exec(said)]

    def newest(self, request_id: str | None, after: Sequence[Any] | None, limit: int) -> Sequence[Entry]:
        """Signals, newest first, from the place (received_at, signal_id) on."""
        at, key = col(SignalRow.received_at), col(SignalRow.signal_id)
        query = select(SignalRow)
        if request_id is not None:
            query = query.where(SignalRow.request_id == request_id)
        if after is not None:
            query = query.where(at <= after[0], or_(at < after[0], and_(at == after[0], key < after[1])))
        return [_entry(row) for row in self.session.exec(query.order_by(at.desc(), key.desc()).limit(limit))]


def horizons(requests: timedelta, signals: timedelta) -> tuple[Horizon, ...]:
    """Requests, and signals that wait no more with what was made of them, are kept for so long."""
    request, signal = table_of(RequestRow), table_of(SignalRow)
    settled = signal.c.status != "waiting"
    return (
        Horizon(request, request.c.completed_at, requests),
        Horizon(signal, signal.c.received_at, signals, settled),
        *of_examples(signals),
    )


def _entry(row: SignalRow) -> Entry:
    state = {f.name: getattr(row, f.name) for f in fields(Entry) if f.name != "signal"}
    return Entry(Signal(**row.body), **state)
