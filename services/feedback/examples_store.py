"""What feedback keeps of examples and opinions. Decides nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from sqlalchemy import and_, delete, func, or_, text
from sqlmodel import Session, col, select

from contracts.records import RECORD
from contracts.types import ModelRef
from services.chassis.retention.pruning import Horizon
from services.feedback.domain.examples import Example, Opinion
from services.feedback.domain.normal_form import nearly_same, sketch
from services.feedback.domain.policy import DAY, Seen
from services.feedback.tables import ExampleRow, OpinionRow, table_of

AT_ONCE = 200
COMPARED = 200
"""So many of the newest answers are looked at for nearly equal ones."""
VOICES = 500
"""So many opinions on a question are counted."""
Status = Literal["released", "held", "rejected"]


@dataclass(frozen=True, slots=True)
class Kept:
    """An example and what became of it. `by`: the reviewer or `policy`; `until`: when a held one is judged by itself."""

    example: Example
    status: Status
    reason: str | None = None
    detail: str | None = None
    until: datetime | None = None
    by: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an opinion stands: whose, on which question, when."""

    project: str
    question: str
    user: str | None
    said_at: datetime


class Examples(Protocol):
    """Examples and opinions within one transaction."""

    def opine(self, about: str, opinions: Sequence[Opinion], place: Place) -> None:
        """Keeps the opinions of the last word on what a signal is about, in place of an earlier word's."""
        ...

    def seen(self, example: Example) -> Seen:
        """What else was said, as the policy asks for it."""
        ...

    def get(self, example_id: str, *, lock: bool = False) -> Kept | None:
        """The example, or None; locked, nobody else decides on it meanwhile."""
        ...

    def put(self, kept: Kept) -> None:
        """Keeps an example's state, a new one's or in place of its older one."""
        ...

    def of_request(self, request_id: str) -> Sequence[Kept]:
        """The examples that were made of what was said on a request."""
        ...

    def disputed(self, project: str, question: str) -> Sequence[Kept]:
        """Held examples on a question whose fate depends on what others say of it."""
        ...

    def due(self, now: datetime) -> Sequence[Kept]:
        """Held examples whose time has come, the longest waiting first."""
        ...

    def held(self, project: str | None, after: Sequence[Any] | None, limit: int) -> Sequence[Kept]:
        """Examples that wait for a reviewer, the oldest first, from the place (said_at, example_id) on."""
        ...


class SqlExamples:
    """Examples and opinions in the service's database."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def opine(self, about: str, opinions: Sequence[Opinion], place: Place) -> None:
        """Keeps the opinions of the last word on what a signal is about, in place of an earlier word's."""
        self._session.connection().execute(delete(OpinionRow).where(col(OpinionRow.about) == about))
        held: dict[str, Any] = {"project": place.project, "question": place.question, "said_at": place.said_at}
        rows = (
            OpinionRow(about=about, answer=o.answer, is_good=o.is_good, user=place.user or "", **held) for o in opinions
        )
        self._session.add_all(rows)
        self._session.flush()

    def seen(self, example: Example) -> Seen:
        """What else was said, as the policy asks for it."""
        agreeing, weight, contesting = self._opinions(example)
        return Seen(
            by_user=0 if example.user is None else self._count(example, col(ExampleRow.user) == example.user),
            of_source=self._count(example),
            alike=self._alike(example),
            agreeing=agreeing,
            weight=weight,
            contesting=contesting,
        )

    def get(self, example_id: str, *, lock: bool = False) -> Kept | None:
        """The example, or None; locked, nobody else decides on it meanwhile."""
        row = self._session.get(ExampleRow, example_id, with_for_update=lock)
        return None if row is None else _kept(row)

    def put(self, kept: Kept) -> None:
        """Keeps an example's state, a new one's or in place of its older one."""
        self._session.merge(_row(kept))
        self._session.flush()

    def of_request(self, request_id: str) -> Sequence[Kept]:
        """The examples that were made of what was said on a request."""
        query = select(ExampleRow).where(ExampleRow.request_id == request_id)
        return [_kept(row) for row in self._session.exec(query.order_by(col(ExampleRow.example_id)).limit(AT_ONCE))]

    def disputed(self, project: str, question: str) -> Sequence[Kept]:
        """Held examples on a question whose fate depends on what others say of it."""
        same = (ExampleRow.project == project, ExampleRow.question == question, ExampleRow.status == "held")
        reasons = col(ExampleRow.reason).in_(("agree", "contested"))
        return self._locked(select(ExampleRow).where(*same, reasons))

    def due(self, now: datetime) -> Sequence[Kept]:
        """Held examples whose time has come, the longest waiting first."""
        query = select(ExampleRow).where(ExampleRow.status == "held", col(ExampleRow.until) <= now)
        return self._locked(query.order_by(col(ExampleRow.until)))

    def held(self, project: str | None, after: Sequence[Any] | None, limit: int) -> Sequence[Kept]:
        """Examples that wait for a reviewer, the oldest first, from the place (said_at, example_id) on."""
        at, key = col(ExampleRow.said_at), col(ExampleRow.example_id)
        query = select(ExampleRow).where(ExampleRow.status == "held", col(ExampleRow.until).is_(None))
        if project is not None:
            query = query.where(ExampleRow.project == project)
        if after is not None:
            query = query.where(at >= after[0], or_(at > after[0], and_(at == after[0], key > after[1])))
        return [_kept(row) for row in self._session.exec(query.order_by(at, key).limit(limit))]

    def _locked(self, query: Any) -> list[Kept]:
        """Locked, since another instance may look for the same and shall not settle them too."""
        rows = self._session.exec(query.limit(AT_ONCE).with_for_update(skip_locked=True))
        return [_kept(row) for row in rows]

    def _count(self, example: Example, *further: Any) -> int:
        same = (ExampleRow.project == example.project, ExampleRow.source == example.source)
        recent = col(ExampleRow.said_at) > example.said_at - DAY
        others = (col(ExampleRow.example_id) != example.example_id, col(ExampleRow.status) != "rejected")
        return self._session.exec(select(func.count()).where(*same, recent, *others, *further)).one()

    def _alike(self, example: Example) -> int:
        same = (ExampleRow.project == example.project, ExampleRow.source == example.source)
        recent = col(ExampleRow.said_at) > example.said_at - DAY
        others = col(ExampleRow.request_id) != example.request_id
        newest = select(ExampleRow.sketch).where(*same, recent, others).order_by(col(ExampleRow.said_at).desc())
        own = sketch(example.text)
        return sum(nearly_same(own, tuple(each.split())) for each in self._session.exec(newest.limit(COMPARED)))

    def _opinions(self, example: Example) -> tuple[int, float, float]:
        """(people who say what the example says, their weight, the weight of those who say the contrary).

        A person who holds an opinion of an answer on n questions has the weight 1/n on each, so that nobody becomes many by
        asking in many words; who is not named is one person. VOICES of them count.
        """
        found: dict[tuple[str | None, bool], dict[str, float]] = {}
        values = {"project": example.project, "question": example.question, "good": example.good, "bad": example.bad}
        for row in self._session.connection().execute(_VOICES, values | {"most": VOICES}):
            found.setdefault((row.answer, bool(row.is_good)), {})[row.user] = 1 / row.n
        says = (example.good, True) if example.good else (example.bad, False)
        voices = found.get(says, {})
        contrary = {**found.get((example.good, False), {}), **found.get((example.bad, True), {})}
        against = sum(weight for user, weight in contrary.items() if user not in voices)
        return max(1, len(voices)), max(1.0, sum(voices.values())), against


_VOICES = text("""
    SELECT here.answer, here.is_good, here."user", (
        SELECT count(DISTINCT other.question) FROM opinion AS other
        WHERE other.project = here.project AND other."user" = here."user"
        AND other.answer = here.answer AND other.is_good = here.is_good
    ) AS n
    FROM opinion AS here
    WHERE here.project = :project AND here.question = :question AND here.answer IN (:good, :bad) LIMIT :most
""")


def horizons(signals: timedelta) -> tuple[Horizon, ...]:
    """Examples and opinions are kept for so long; what nobody reviewed until then is not learnt."""
    example, opinion = table_of(ExampleRow), table_of(OpinionRow)
    return (
        Horizon(example, example.c.said_at, signals),
        Horizon(opinion, opinion.c.said_at, signals),
    )


_IN_BODY = ("signal_id", "model", "record", "tags", "good", "bad", "teacher")


def _row(kept: Kept) -> ExampleRow:
    own = {f.name: getattr(kept.example, f.name) for f in fields(Example)}
    body = {name: own.pop(name) for name in _IN_BODY}
    body |= {"model": kept.example.model.model_dump(), "record": kept.example.record.model_dump(mode="json")}
    state = {f.name: getattr(kept, f.name) for f in fields(kept) if f.name != "example"}
    return ExampleRow(
        **own, **state, sketch=" ".join(sketch(kept.example.text)), body={**body, "tags": dict(body["tags"])}
    )


def _kept(row: ExampleRow) -> Kept:
    read = {"model": ModelRef.model_validate(row.body["model"]), "record": RECORD.validate_python(row.body["record"])}
    body: dict[str, Any] = {**row.body, **read}
    own = {f.name: getattr(row, f.name) for f in fields(Example) if f.name not in _IN_BODY}
    state = {f.name: getattr(row, f.name) for f in fields(Kept) if f.name != "example"}
    return Kept(Example(**own, **body), **state)
