"""What a row of each shape becomes: a function a shape, then the table. Which shape a row has: contracts/shapes.py."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from contracts.records import RecordInvalid
from contracts.shapes import NAMED, Row, Shape, ShapeName, detect, given, renamed
from contracts.turns import MAX_DEPTH, conversation, nested_deeper, parsed, tools
from services.ingestion.domain.columns import Columns, as_tags, rename

MAX_COLUMNS = 1000
Record = dict[str, Any]


class Became(NamedTuple):
    """The shape a record came in, the record in a standard format, and the tags that its further columns became."""

    shape: ShapeName
    record: Record
    tags: dict[str, str]


def convert(raw: Row, columns: Columns | None = None) -> Became:
    """A row of any shape as a record.

    Raises:
        RecordInvalid: `too_many_columns`, `too_deep`, `unknown_format`, `ambiguous`, `missing_column`, `invalid_field` or
            `unsupported_content`.
    """
    if len(raw) > MAX_COLUMNS:
        raise RecordInvalid("too_many_columns", f"the record has {len(raw)} columns; at most {MAX_COLUMNS} are taken")
    if nested_deeper(raw, MAX_DEPTH):
        raise RecordInvalid("too_deep", f"the record is nested deeper than {MAX_DEPTH} levels")
    row = given(raw)
    if columns and (mapped := rename(row, columns)) is not None:
        row, rest = mapped
        shape = detect(row)
    else:
        row = renamed(row)
        shape = _detected(row, columns or {})
        rest = {name: value for name, value in row.items() if name not in NAMED}
    return Became(shape.name, CONVERSIONS[shape.name](row), as_tags(rest))


def _detected(row: Row, columns: Columns) -> Shape:
    """The shape of a row that has none of the columns that the project's mapping needs."""
    try:
        return detect(row)
    except RecordInvalid as error:
        if not columns or error.code != "unknown_format":
            raise
        mapped = ", ".join(repr(column) for column in columns.values())
        detail = (
            f"none of the columns is here that ingest.columns of the project maps ({mapped}), and by itself {error}"
        )
        raise RecordInvalid(error.code, detail) from error


def _messages(row: Row) -> Record:
    return {"messages": _with_system(row, conversation(row["messages"], "messages"))} | _offered(row)


def _sharegpt(row: Row) -> Record:
    return {"messages": _with_system(row, conversation(row["conversations"], "conversations"))} | _offered(row)


def _text(row: Row) -> Record:
    return {"text": row["text"]}


def _prompt_only(row: Row) -> Record:
    return {"prompt": _prompt(row), "completion": ""} | _offered(row)


def _prompt_completion(row: Row) -> Record:
    return {"prompt": _prompt(row), "completion": _said(row, "completion")} | _offered(row)


def _unpaired_preference(row: Row) -> Record:
    return _prompt_completion(row) | {"label": row["label"]}


def _stepwise(row: Row) -> Record:
    """A solution is desirable where all its steps are. Steps are joined by a line feed, as TRL's PRMTrainer does."""
    said, labels = (_list(row, name) for name in ("completions", "labels"))
    if len(said) != len(labels):
        raise RecordInvalid("invalid_field", f"record.labels has {len(labels)} verdicts on {len(said)} completions")
    whole = "\n".join(map(str, said))
    steps = [{"completion": step, "label": label} for step, label in zip(said, labels, strict=True)]
    verdict = all(label in (True, 1, "true", "True") for label in labels)
    return {"prompt": _prompt(row), "completion": whole, "label": verdict, "steps": steps}


def _preference(row: Row) -> Record:
    chosen, rejected = _said(row, "chosen"), _said(row, "rejected")
    prompt = _prompt(row) if row.get("prompt") else None
    if prompt is None or _repeats(prompt, chosen, rejected):
        prompt, chosen, rejected = implicit_prompt(chosen, rejected)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | _offered(row)


def _openai_preference(row: Row) -> Record:
    asked = row["input"]
    inner: Row = cast(Row, asked) if isinstance(asked, Mapping) else {"messages": asked}
    if "messages" not in inner:
        raise RecordInvalid("invalid_field", "record.input has no messages")
    sides = {name: conversation(row[name], name) for name in ("preferred_output", "non_preferred_output")}
    prompt = {"prompt": conversation(inner["messages"], "input.messages")}
    return prompt | {"chosen": sides["preferred_output"], "rejected": sides["non_preferred_output"]} | _offered(inner)


def _alpaca(row: Row) -> Record:
    return {"prompt": _instruction(row, "input"), "completion": row["output"]}


def _alpaca_preference(row: Row) -> Record:
    return {
        "prompt": _instruction(row, "input"),
        "chosen": _said(row, "chosen"),
        "rejected": _said(row, "rejected"),
    }


def _dolly(row: Row) -> Record:
    return {"prompt": _instruction(row, "context"), "completion": row["response"]}


def _instruction(row: Row, further: str) -> Any:
    """The instruction, and what it is about below it; behind the turns of `system` and `history` where they are given."""
    parts = [row["instruction"], row.get(further, "")]
    if not all(isinstance(part, str) for part in parts):
        raise RecordInvalid("invalid_field", f"record.instruction and record.{further} are to be texts")
    asked = "\n\n".join(part for part in parts if part)
    before = [turn for pair in _list(row, "history") for turn in _exchange(pair)] if row.get("history") else []
    turns = _with_system(row, [*before, {"role": "user", "content": asked}])
    return asked if len(turns) == 1 else turns


def _exchange(pair: Any) -> Iterable[Record]:
    both: Sequence[Any] = cast(Sequence[Any], pair) if isinstance(pair, list | tuple) else ()
    if len(both) != 2:
        raise RecordInvalid("invalid_field", "record.history is to be a list of [instruction, answer]")
    return ({"role": role, "content": text} for role, text in zip(("user", "assistant"), both, strict=True))


def _prompt(row: Row) -> Any:
    prompt = _said(row, "prompt")
    if not row.get("system"):
        return prompt
    return _with_system(row, [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)


def _said(row: Row, name: str) -> Any:
    """A text as it is, or turns."""
    return row[name] if isinstance(row[name], str) else conversation(row[name], name)


def _with_system(row: Row, turns: list[Record]) -> list[Record]:
    system = row.get("system")
    if not system:
        return turns
    if turns and turns[0]["role"] == "system":
        if turns[0]["content"] != system:
            raise RecordInvalid("ambiguous", "the system prompt is the column 'system', or the first turn; they differ")
        return turns
    return [{"role": "system", "content": system}, *turns]


def _offered(row: Row) -> Record:
    """Tools, and what else a conversation may bring beside its turns."""
    found: Record = {}
    for name in ("tools", "functions"):
        if (offered := tools(row.get(name), name)) is not None:
            found["tools"] = offered
    if extra := row.get("chat_template_kwargs"):
        found["chat_template_kwargs"] = parsed(extra, "chat_template_kwargs") if isinstance(extra, str) else extra
    if "parallel_tool_calls" in row:
        found["parallel_tool_calls"] = row["parallel_tool_calls"]
    return found


def _list(row: Row, name: str) -> list[Any]:
    value = parsed(row[name], name) if isinstance(row[name], str) else row[name]
    if not isinstance(value, list | tuple):
        raise RecordInvalid("invalid_field", f"record.{name} is {type(value).__name__}; give a list")
    return list(cast(Sequence[Any], value))


def _repeats(prompt: Any, *sides: Any) -> bool:
    """Whether both sides begin with the prompt again, as UltraFeedback's do."""
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return all(isinstance(side, list) and len(side) > len(turns) and side[: len(turns)] == turns for side in sides)


def implicit_prompt(chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """The common beginning of both sides, and the rest of each: TRL's extract_prompt.

    Raises:
        RecordInvalid: `invalid_field`: there is none, or both are the same.
    """
    if type(chosen) is not type(rejected) or chosen == rejected:
        raise RecordInvalid("invalid_field", "record.chosen and record.rejected are the same, or only one is a text")
    pairs = enumerate(zip(chosen, rejected, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), min(len(chosen), len(rejected)))
    if isinstance(chosen, str) and chosen[at - 1 : at] == " ":
        at -= 1
    if at == 0 or at >= min(len(chosen), len(rejected)):
        detail = "chosen and rejected share no beginning that is the prompt; give `prompt`"
        raise RecordInvalid("invalid_field", f"record.{detail}")
    return chosen[:at], chosen[at:], rejected[at:]


CONVERSIONS: Mapping[ShapeName, Callable[[Row], Record]] = {
    "openai_preference": _openai_preference,
    "stepwise": _stepwise,
    "alpaca_preference": _alpaca_preference,
    "preference": _preference,
    "unpaired_preference": _unpaired_preference,
    "prompt_completion": _prompt_completion,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "dolly": _dolly,
    "prompt_only": _prompt_only,
    "text": _text,
}
