"""Tags and notes of datasets: how they are kept and said. Knows no HTTP."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, tuple_
from sqlmodel import Session, col, select

from contracts.events.prep import DatasetAnnotatedV1
from services.prep.tables import AnnotationRow, DatasetRow, TagRow

MOST_TAGS = 50


class TooManyTags(ValueError):
    """A dataset would have more than MOST_TAGS."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is said of a dataset; a `sequence` of 0: nothing was ever."""

    sequence: int = 0
    tags: tuple[str, ...] = ()
    note: str = ""
    by: str | None = None
    at: datetime | None = None

    def document(self) -> dict[str, Any]:
        """As the API gives it."""
        at = self.at.isoformat() if self.at else None
        return {"tags": list(self.tags), "note": self.note, "annotated_by": self.by, "annotated_at": at}


def of_datasets(session: Session, datasets: Sequence[DatasetRow]) -> list[Annotation]:
    """What is said of each, in two queries."""
    places = [(dataset.project, dataset.number) for dataset in datasets]
    tags: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in session.exec(select(TagRow).where(tuple_(col(TagRow.project), col(TagRow.number)).in_(places))):
        tags[row.project, row.number].append(row.tag)
    own = tuple_(col(AnnotationRow.project), col(AnnotationRow.number)).in_(places)
    rows = {(row.project, row.number): row for row in session.exec(select(AnnotationRow).where(own))}
    return [_annotation(rows.get(place), tags[place]) for place in places]


def _annotation(row: AnnotationRow | None, tags: Iterable[str]) -> Annotation:
    return Annotation(row.sequence, tuple(sorted(tags)), row.note, row.by, row.at) if row else Annotation()


def of_dataset(session: Session, project: str, number: int, *, lock: bool = False) -> Annotation:
    """What is said of a dataset, perhaps to be changed in this transaction."""
    row = session.get(AnnotationRow, (project, number), with_for_update=lock)
    own = select(TagRow.tag).where(TagRow.project == project, TagRow.number == number)
    return _annotation(row, session.exec(own))


def tagged(tag: str) -> ColumnElement[bool]:
    """Whether a DatasetRow has the tag."""
    own = (col(TagRow.project) == col(DatasetRow.project), col(TagRow.number) == col(DatasetRow.number))
    return exists().where(*own, col(TagRow.tag) == tag)


def changed(
    before: Annotation,
    project: str,
    number: int,
    add: Collection[str],
    remove: Collection[str],
    note: str | None,
    by: str,
) -> DatasetAnnotatedV1 | None:
    """The event of a change, None where it changes nothing. A tag that is both added and removed stays.

    Raises:
        TooManyTags
    """
    tags = tuple(sorted((set(before.tags) - set(remove)) | set(add)))
    said = before.note if note is None else note
    if (tags, said) == (before.tags, before.note):
        return None
    if len(tags) > MOST_TAGS:
        raise TooManyTags(f"a dataset has at most {MOST_TAGS} tags; these would be {len(tags)}")
    return DatasetAnnotatedV1(project=project, number=number, sequence=before.sequence + 1, tags=tags, note=said, by=by)


def keep(session: Session, event: DatasetAnnotatedV1, at: datetime) -> None:
    """Makes the event's the dataset's annotation, unless a later one stands."""
    row = session.get(AnnotationRow, (event.project, event.number), with_for_update=True)
    if row is not None and row.sequence >= event.sequence:
        return
    session.merge(
        AnnotationRow(
            project=event.project,
            number=event.number,
            sequence=event.sequence,
            note=event.note,
            by=event.by,
            at=at,
        )
    )
    own = delete(TagRow).where(col(TagRow.project) == event.project, col(TagRow.number) == event.number)
    session.connection().execute(own)
    session.add_all(TagRow(project=event.project, number=event.number, tag=tag) for tag in event.tags)
    session.flush()
