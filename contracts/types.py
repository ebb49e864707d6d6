"""Values that several events carry: references to artifacts, datasets, bases and models, and metrics with intervals."""

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest, 64 lower-case hexadecimal digits."""

ProjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
"""A project's and its model's name: lower-case letters, digits and hyphens, at most 63 (an RFC 1123 label)."""

RecordId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A record's identity within its project, chosen by whoever submits it; no control characters."""


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("NaN and infinity are no JSON numbers")
    parts = (
        cast(Any, value).values() if isinstance(value, dict) else cast(Any, value) if isinstance(value, list) else ()
    )
    for part in parts:
        _finite(part)
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_finite)]
"""Any JSON object."""


class Value(BaseModel):
    """Base of the values inside events: frozen; unknown fields are ignored so that producers may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ArtifactRef(Value):
    """An immutable file in the artifact store."""

    uri: str = Field(description="Where it lies: file://, s3://, gs:// or az://", max_length=2048)
    sha256: Sha256
    bytes: int = Field(ge=0, description="Size in bytes")


Files = dict[str, ArtifactRef]
"""Files of a directory by their relative path, '/' between the parts."""


class BaseRef(Value):
    """A base model: its name as the project gives it and the files it was resolved to."""

    name: str
    digest: Sha256 = Field(description="Digest of the files' paths and digests")
    files: Files


class DatasetRef(Value):
    """A frozen dataset: one Parquet file a split."""

    project: ProjectName
    version: Sha256 = Field(description="Digest of the content, the same whatever the order of arrival")
    number: int = Field(ge=1, description="1, 2, ... in the order of freezing")
    files: Files = Field(description="'train', 'validation', 'held_out' and, in newer ones, 'drops' -> Parquet")


class ModelRef(Value):
    """A registered model version; version 0 is the base, untouched."""

    name: ProjectName
    version: int = Field(ge=0)


class Metric(Value):
    """A figure on n examples with its 95% interval: Wilson's of a share, else the percentile bootstrap's."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0, description="Number of examples")
    higher_is_better: bool = True
    unit: str | None = Field(default=None, description="percent (0 to 100), or nats per token for the loss")


def _in_percent(raw: Any) -> Any:
    """Metrics from before they had a unit: there `exact_match` was a share of 1, all others were as they are now."""
    if not isinstance(raw, Mapping):
        return raw
    metrics = cast(Mapping[str, Any], raw)
    share = metrics.get("exact_match")
    given = share.model_dump() if isinstance(share, Metric) else share
    if not isinstance(given, dict) or cast(dict[str, Any], given).get("unit") is not None:
        return metrics
    scaled = {name: 100 * given[name] for name in ("value", "low", "high") if isinstance(given.get(name), int | float)}
    return {**metrics, "exact_match": {**given, **scaled, "unit": "percent"}}


Metrics = Annotated[dict[str, Metric], BeforeValidator(_in_percent)]
"""Figures by metric: exact_match, chrf, bleu and rouge_l in percent, loss in nats per token."""


class PairedTest(Value):
    """Whether a rule on the champion holds by more than chance: a one-sided test on the paired differences by example.

    The null hypothesis is that the difference, candidate minus champion, is `margin` or lies on the rule's wrong side of it.
    """

    p: float = Field(gt=0, le=1, description="How often chance alone would show as much for the candidate, or more")
    margin: float = Field(description="The difference that has to be passed, in the metric's unit")
    sd: float = Field(
        ge=0, description="Standard deviation of an example's difference; by sqrt(n) it is the standard error"
    )
    n: int = Field(ge=1, description="Number of examples")
    differing: int = Field(ge=0, description="Of these, examples on which candidate and champion differ")
    flips: int = Field(ge=1, description="Arrangements of signs that were counted")
    exact: bool = Field(description="Whether these were all arrangements; otherwise a random choice of them")


SKETCH = 256
"""So many of a set's row digests are kept: of a set that has no more, all."""


class HeldOutRows(Value):
    """Which rows were measured on, so that it can be told which share of them is new: exactly up to 256 rows, estimated above."""

    rows: int = Field(ge=1)
    digest: Sha256 = Field(description="Of the rows' identities, whatever their order")
    smallest: tuple[str, ...] = Field(
        max_length=SKETCH,
        description="The smallest SHA-256 of the record ids, ascending, 16 hexadecimal digits of each",
    )
