"""What the steps decide by, read from a batch of accepted records: Arrow columns in, Arrow columns out.

The one place of a freeze where Python sees each record. A batch is worked alone, in whatever process of whatever machine.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from contracts.kinds import KINDS
from services.prep.domain import languages, normalise, pii, toxicity
from services.prep.domain.arrow import Column, Schema
from services.prep.domain.reading import Reading, read

RAW = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("revision", pa.int64(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("record", pa.string(), nullable=False),
        pa.field("tags", pa.string(), nullable=False),
        pa.field("subject", pa.string()),
        pa.field("accepted_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""Accepted records as they lie in the store."""

MEASURED = pa.schema(
    [
        pa.field("record", pa.string()),
        pa.field("digest", pa.string()),
        pa.field("prompt_key", pa.string()),
        pa.field("words", pa.string()),
        pa.field("content_0", pa.uint64()),
        pa.field("content_1", pa.uint64()),
        pa.field("prompt_0", pa.uint64()),
        pa.field("prompt_1", pa.uint64()),
        pa.field("said", pa.int32()),
        pa.field("characters", pa.int32()),
        pa.field("kind", pa.int8()),
    ]
)
"""`content` and `prompt` are the first 128 bits of the digests of what is learnt and of the normalised prompt, `said` the
characters of the completion (of a prompt alone, the prompt's) without white space around, `characters` those of prompt and
completion, `kind` the place in KINDS."""


def told(reading: Reading) -> str:
    """The completion; of a prompt alone the prompt."""
    return reading.prompt if reading.kind == "prompt_only" else reading.completion


FURTHER: dict[str, Callable[[Reading], str]] = {
    "text": lambda reading: f"{reading.prompt}\n{reading.completion}",
    "completion": lambda reading: reading.completion,
    "told": lambda reading: told(reading),
    "language": lambda reading: languages.guess(reading.prompt, reading.completion),
    "pii": lambda reading: pii.told(reading.record),
    "all_words": lambda reading: " ".join(normalise.words(f"{reading.prompt}\n{reading.completion}")),
}
"""Texts that some steps ask for of each record: all of it, the completion, what is told, the language, kinds of secrets and
personal data, and the words with a space between each."""

TOGETHER: dict[str, Callable[[Sequence[Reading]], list[str]]] = {
    "toxicity": lambda readings: [
        str(score) for score in toxicity.scores([(reading.prompt, reading.completion) for reading in readings])
    ],
}
"""What is found the quicker of many records at once: how toxic they are, as a probability."""


def measured(further: Sequence[str]) -> Schema:
    """`MEASURED` with further texts."""
    return pa.schema([*MEASURED, *(pa.field(name, pa.string()) for name in further)])


def measure(formats: Column, records: Column, further: Sequence[str] = ()) -> Column:
    """The columns of `measured(further)` for each record."""
    readings = [read(*record) for record in zip(formats.to_pylist(), records.to_pylist(), strict=True)]
    schema = measured(further)
    columns: list[Any] = list(zip(*map(_row, readings), strict=True)) if readings else [()] * len(MEASURED)
    columns += [_further(name, readings) for name in further]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=list(schema))


def _further(name: str, readings: Sequence[Reading]) -> list[str]:
    return TOGETHER[name](readings) if name in TOGETHER else [FURTHER[name](reading) for reading in readings]


def _row(reading: Reading) -> tuple[Any, ...]:
    content, prompt = reading.content, reading.prompt_key
    return (
        reading.record,
        reading.digest,
        prompt,
        reading.words,
        int(content[:16], 16),
        int(content[16:32], 16),
        int(prompt[:16], 16),
        int(prompt[16:32], 16),
        len(told(reading).strip()),
        len(reading.prompt) + len(reading.completion),
        KINDS.index(reading.kind),
    )
