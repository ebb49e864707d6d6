"""The whole of a freeze as a sequence of steps: accepted records in, a dataset's rows and drops out."""

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass

from contracts.canonical import canonical, digest
from contracts.project import Prep
from services.prep.domain import duplicates, lengths, near_duplicates, reading
from services.prep.domain.rows import SPLITS, Accepted, Drop, Row, Split

STEPS = "1"
"""Grows when the steps give other rows for the same records, so that versions differ too."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows by digest, drops by record_id, and the version: the digest of both the content and the rules."""

    rows: tuple[Row, ...]
    drops: tuple[Drop, ...]
    version: str

    def split(self, split: Split) -> list[Row]:
        """A split's rows by digest."""
        return [row for row in self.rows if row.split == split]

    def counts(self) -> dict[str, int]:
        """Rows a split."""
        found = Counter(row.split for row in self.rows)
        return {split: found[split] for split in SPLITS}

    def drops_by_reason(self) -> dict[str, int]:
        """Drops a reason."""
        return dict(sorted(Counter(drop.reason for drop in self.drops).items()))


def freeze(records: Iterable[Accepted], prep: Prep, trained: Container[str] = ()) -> Dataset:
    """The dataset of `records`, the same whatever their order; for `trained` see splits.py."""
    rows = [reading.row(record, prep, trained) for record in records]
    rows, unfit = lengths.partition(rows, prep)
    rows, repeated = duplicates.partition(rows) if prep.deduplicate == "exact" else (rows, [])
    rows, near_ones = near_duplicates.partition(rows)
    rows.sort(key=lambda row: (row.digest, row.record_id))
    drops = sorted((*unfit, *repeated, *near_ones), key=lambda drop: drop.record_id)
    return Dataset(tuple(rows), tuple(drops), version(rows, prep))


def version(rows: Iterable[Row], prep: Prep) -> str:
    """SHA-256 over the rules and the sorted rows' identities, contents and splits."""
    rules = prep.model_dump(mode="json", exclude={"freeze"})
    lines = [canonical([row.digest, row.record_id, row.format, row.split, row.tags, row.subject]) for row in rows]
    return digest("\n".join([canonical([STEPS, rules]), *lines]))
