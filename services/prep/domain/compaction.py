"""Which segments of a project's records are written anew, and together. Knows no file and no database."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from contracts.types import ArtifactRef

LIVE = 0.75
"""A segment with a smaller share of rows that are still a record's newest revision is written anew without the others."""
SMALL, MANY_SMALL = 0.5, 16
"""Once there are so many segments below this share of a whole one, they are put together."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`rows` of `size` bytes lie in the artifact; `live` of them are their records' newest revisions."""

    number: int
    artifact: ArtifactRef
    rows: int
    size: int
    live: int

    @property
    def live_size(self) -> int:
        """About how many bytes the live rows have."""
        return self.size * self.live // max(1, self.rows)


def worn(segments: Sequence[Segment], whole: int) -> list[Segment]:
    """Those to write anew, where a whole segment has `whole` bytes."""
    small = [segment for segment in segments if segment.live_size < SMALL * whole]
    together = {segment.number for segment in small} if len(small) >= MANY_SMALL else set[int]()
    return [s for s in segments if s.live < LIVE * s.rows or s.number in together]


def grouped(segments: Iterable[Segment], whole: int) -> Iterator[list[Segment]]:
    """Segments whose live rows make one new segment of at most about `whole` bytes."""
    group: list[Segment] = []
    size = 0
    for segment in segments:
        if group and size + segment.live_size > whole:
            yield group
            group, size = [], 0
        group.append(segment)
        size += segment.live_size
    if group:
        yield group
