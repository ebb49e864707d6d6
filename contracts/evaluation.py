"""What an evaluation finds beside its figures: parts of the rows on which the candidate differs, and what it forgot.

Both name records by their ids and hold no text of theirs: events are kept for ever, records are not.
"""

from pydantic import Field

from contracts.types import ArtifactRef, Metric, RecordId, Value

WORST = 10
"""So many of the worst differences an event holds; the table has all."""
EXAMPLES = 20
"""So many regressed cases an event names."""
SHOWN = 0.05
"""The level at which a part is said to be worse, for all parts and metrics of an evaluation together."""
RIGHT = "exact_match >= 100"
"""An answer is right where it is the correction, but for Unicode form and the amount of white space."""


class SliceDifference(Value):
    """One metric on one part of the rows that were measured."""

    tag: str = Field(max_length=100, description="The tag by which the rows are parted; empty: the question's length")
    value: str = Field(max_length=100, description="The tag's value on these rows, or the range of lengths in words")
    metric: str
    candidate: float
    champion: float
    difference: Metric = Field(
        description="Candidate minus champion, paired by example; the interval is of this part alone, not adjusted"
    )
    p: float = Field(
        gt=0, le=1, description="One-sided: how often chance alone would show as much for the worse, or more"
    )
    adjusted: float = Field(gt=0, le=1, description="p by Holm over all parts and metrics of the evaluation")


class Slices(Value):
    """Differences by part of the rows. They decide nothing: rules of a gate are about all rows."""

    table: ArtifactRef = Field(description="JSON: a list of every part's differences, SliceDifference each")
    parts: int = Field(ge=0, description="Parts that were compared; they may overlap")
    tests: int = Field(ge=0, description="Parts times metrics: the family that `adjusted` is over")
    left_out: int = Field(ge=0, description="Parts with too few rows, or beyond those that are compared")
    worst: tuple[SliceDifference, ...] = Field(
        max_length=WORST, description="Where the candidate does worst against the champion, by p"
    )


class Regressions(Value):
    """What became of regression cases: held-out questions whose answer a person corrected. No case was trained on.

    A case is right where the answer is right by any of its corrections.
    """

    right: str = Field(default=RIGHT, description="When an answer is right, by the metric of the answer")
    cases: int = Field(ge=0)
    kept: int = Field(ge=0, description="Right by champion and candidate")
    fixed: int = Field(ge=0, description="Right by the candidate alone")
    regressed: int = Field(ge=0, description="Right by the champion alone")
    wrong: int = Field(ge=0, description="Right by neither")
    records: tuple[RecordId, ...] = Field(
        default=(), max_length=EXAMPLES, description="Records of cases that regressed, one a case"
    )
