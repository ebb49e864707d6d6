"""The shapes in which people have records, by their columns, and how a row is told to be one of them.

Sources: OpenAI's fine-tuning guides (chat and preference files), TRL's dataset formats, ShareGPT, Stanford Alpaca,
Databricks Dolly, LLaMA-Factory's data/README. What each becomes: services/ingestion/domain/conversions.py and docs/data.md.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal, NamedTuple, cast

from contracts.records import RecordInvalid

ShapeName = Literal[
    "openai_preference", "stepwise", "alpaca_preference", "preference", "unpaired_preference", "prompt_completion",
    "messages", "sharegpt", "alpaca", "dolly", "prompt_only", "text",
]  # fmt: skip
Column = Literal[
    "messages", "prompt", "completion", "chosen", "rejected", "label", "completions", "labels", "text", "system",
    "tools", "functions", "chat_template_kwargs", "parallel_tool_calls", "conversations", "instruction", "input",
    "output", "response", "context", "history", "preferred_output", "non_preferred_output",
]  # fmt: skip
"""A column that a shape needs or takes."""
Row = Mapping[str, Any]


class Shape(NamedTuple):
    """A shape: the columns without which a row is none of it, and those it may have."""

    name: ShapeName
    needs: frozenset[str]
    may: frozenset[str]

    @property
    def columns(self) -> frozenset[str]:
        """All columns that the shape reads."""
        return self.needs | self.may


def _shape(name: ShapeName, needs: str, may: str = "") -> Shape:
    return Shape(name, frozenset(needs.split()), frozenset(may.split()))


_TOOLS = "system tools chat_template_kwargs parallel_tool_calls"
_CHAT = f"{_TOOLS} functions"
SHAPES: tuple[Shape, ...] = (
    _shape("openai_preference", "input preferred_output non_preferred_output"),
    _shape("stepwise", "prompt completions labels"),
    _shape("alpaca_preference", "instruction chosen rejected", "input system history"),
    _shape("preference", "chosen rejected", f"prompt {_TOOLS}"),
    _shape("unpaired_preference", "prompt completion label", _TOOLS),
    _shape("prompt_completion", "prompt completion", _TOOLS),
    _shape("messages", "messages", _CHAT),
    _shape("sharegpt", "conversations", _CHAT),
    _shape("alpaca", "instruction output", "input system history"),
    _shape("dolly", "instruction response", "context"),
    _shape("prompt_only", "prompt", _TOOLS),
    _shape("text", "text"),
)
"""The more a shape says, the earlier it stands: of two readings of the same words the first counts."""
NAMED = frozenset(column for shape in SHAPES for column in shape.columns)
"""All columns that any shape reads."""
_ANSWERS = frozenset({"answer", "answers", "solution", "target", "reply", "completion_text", "response_text"})
"""Columns of no shape that may hold what is to be learnt: beside a prompt alone they are not passed over."""
_RENDERED = frozenset({"prompt", "text"})
_REPEATING = _RENDERED | {"messages", "conversations", "instruction"}
"""Columns that people keep beside others that say the same."""
ALIASES: Mapping[str, str] = {"conversation": "conversations", "system_prompt": "system"}
"""Other names of columns: WildChat's and LMSYS-Chat's, OpenOrca's."""
MAPPING = "ingest: {columns: {prompt: YOURS, completion: YOURS}}"


def given(row: Row) -> dict[str, Any]:
    """The columns with a value: null means not given."""
    return {name: value for name, value in row.items() if value is not None}


def renamed(row: Row) -> dict[str, Any]:
    """The row with the shapes' own names for columns that have another one and hold what it means."""

    def own(name: str, value: Any) -> str:
        meant = ALIASES.get(name, name)
        fits = isinstance(value, list) if meant == "conversations" else isinstance(value, str)
        return meant if fits and meant not in row else name

    return {own(name, value) if name in ALIASES else name: value for name, value in row.items()}


def detect(row: Row) -> Shape:
    """The shape of a row, by its columns alone.

    A column of another shape that says nothing new (an Alpaca row's rendered `text`, UltraChat's `prompt` beside
    `messages`) is passed over; one that says something else makes two readings of the row, of which nobody knows the right one.

    Raises:
        RecordInvalid: `unknown_format`, or `ambiguous` with both readings.
    """
    candidates = readings(row.keys())
    if not candidates:
        raise RecordInvalid("unknown_format", _unknown(row))
    for shape in candidates:
        others = [
            name for name in row if name in NAMED | _ANSWERS and name not in shape.columns and not _bare(row[name])
        ]
        if all(_same_words(row, shape, name) for name in others):
            _check_spelling(row, shape)
            return shape
    raise RecordInvalid("ambiguous", _both(row, candidates))


def readings(columns: Any) -> list[Shape]:
    """The shapes whose columns are there, without those that another one holds."""
    found = [shape for shape in SHAPES if shape.needs <= columns]
    return [
        s for s in found if not any(s is not t and s.needs <= t.columns and not t.needs <= s.columns for t in found)
    ]


def _bare(value: Any) -> bool:
    return value == "" or value == [] or value == {}


def _same_words(row: Row, shape: Shape, other: str) -> bool:
    """Whether a column repeats texts of the shape's columns, or is their rendering.

    Never what may be an answer or a verdict, nor beside a prompt or a text alone: there a word that stands in both says nothing
    (a prompt that lists the labels, and one of them).
    """
    if other not in _REPEATING or shape.name in ("prompt_only", "text"):
        return False
    own = [text for name in shape.columns if name in row for text in texts(row[name])]
    others = list(texts(row[other]))
    rendered = "\n".join(others) if other in _RENDERED else ""
    return bool(others) and (set(others) <= set(own) or all(text in rendered for text in own))


def texts(value: Any) -> Iterator[str]:
    """The texts within a JSON value that are content: names of roles and kinds of parts are none."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part.strip()
        elif isinstance(part, Mapping):
            fields = cast(Mapping[str, Any], part)
            waiting += [item for name, item in fields.items() if name not in ("role", "from", "type", "name", "id")]
        elif isinstance(part, list | tuple):
            waiting += cast(list[Any], part)


def _check_spelling(row: Row, shape: Shape) -> None:
    """A further column whose name nearly is one that would make another shape of the row is misspelt."""
    for name in row:
        if name in NAMED or name in ALIASES or (near := closest(name)) is None:
            continue
        if near in row or near in name.split("_"):  # prompt_id is no misspelt prompt
            continue
        if any(found.name != shape.name for found in readings({*row, near})):
            raise RecordInvalid("unknown_format", f"the column {name[:60]!r} is not known; did you mean {near!r}?")


def closest(name: str, known: frozenset[str] = NAMED) -> str | None:
    """The known name that `name` nearly is, or None."""
    return _closest(name, known) if len(name) <= 40 else None


@lru_cache(4096)
def _closest(name: str, known: frozenset[str]) -> str | None:
    return next(iter(get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.8)), None)


def _unknown(row: Row) -> str:
    keys = ", ".join(sorted(str(name)[:60] for name in row)[:10]) or "none"
    shapes = "; ".join(" + ".join(sorted(shape.needs)) for shape in SHAPES)
    near = [(name, closest(name)) for name in row if name not in NAMED]
    hint = next((f"; did you mean {found!r} by {name[:60]!r}?" for name, found in near if found), "")
    return (
        f"record has the columns {keys}{hint}; give one of: {shapes}; or name yours in the project file, as {MAPPING}"
    )


def _both(row: Row, candidates: list[Shape]) -> str:
    first = candidates[0]
    if len(candidates) > 1:
        second = candidates[1]
        two = f"{first.name} ({' + '.join(sorted(first.needs))}) or {second.name} ({' + '.join(sorted(second.needs))})"
    else:
        left = sorted(name for name in row if name in NAMED | _ANSWERS and name not in first.columns)[0]
        two = f"{first.name} with a further column {left!r}, or a shape in which {left!r} is to be learnt or obeyed"
    return f"the record can be read as {two}; say which in the project file, as {MAPPING}"
