"""An accepted record as what the steps decide by: its texts as they were sent, and keys of comparison. Drops nothing.

Works on the JSON that the door checked (contracts/records.py), without making its classes: a freeze reads every record of its
project. That it reads as contracts/chat.py does is tested on records of every format.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from contracts.canonical import canonical, digest
from contracts.preparation import Prep
from contracts.records import FORMATS
from services.prep.domain import normalise
from services.prep.domain.rows import Split
from services.prep.domain.splits import group_key, is_ranked, prompt_key, split_of

_FORMATS = {name for name, _ in FORMATS.values()}
_ANSWER = {"preference": "chosen"}
"""Where a format's completion stands, if not in `completion`."""
Turn = Mapping[str, Any]


class Reading(NamedTuple):
    """What a record says, as it was sent, and what records are compared by, which comes from normalised copies.

    `kind` is one of contracts/kinds.py. `record` is canonical JSON and `digest` its digest. `content` is the digest of what is
    learnt (the same for one content in two formats), `words` are the prompt's with a space between each, `prompt_key` their
    digest.
    """

    kind: str
    record: str
    digest: str
    content: str
    prompt_key: str
    words: str
    prompt: str
    completion: str


def read(format: str, record: str) -> Reading:
    """The reading of an accepted record.

    Raises:
        KeyError: its format is none of contracts/records.py, which ingestion let none pass.
    """
    if format not in _FORMATS:
        raise KeyError(format)
    content = json.loads(record)
    turns, first = _turns(format, content)
    at = _completion_at(turns, first)
    before = [(turn["role"], said(turn)) for turn in turns[:at]]
    answer = said(turns[at]) if at < len(turns) else ""
    completion = content["text"] if format == "text" else answer
    prompt = _prompt(before, turns)
    words = " ".join(normalise.words(normalise.text(prompt) or completion))
    text = canonical(content)
    compared = [[[role, normalise.text(told)] for role, told in before], normalise.text(completion)]
    return Reading(
        kind(format, content),
        text,
        digest(text),
        digest(canonical(compared + normalise.texts(_extra(format, content)))),
        prompt_key(words),
        words,
        prompt,
        completion,
    )


def split(format: str, record: str, subject: str | None, tags: dict[str, str], prep: Prep) -> Split | None:
    """The split that a record would belong to today; None where that depends on the others."""
    if is_ranked(prep):
        return None
    return split_of(group_key(prep.split.by, read(format, record).prompt_key, subject, tags), prep)


def said(turn: Turn) -> str:
    """What a turn says, calls of tools in words; as contracts/chat.py has it."""
    called = turn.get("tool_calls")
    if not called:
        return turn["content"]
    functions = [call["function"] for call in called]
    calls = [f'{{"name": {json.dumps(f["name"])}, "arguments": {f["arguments"]}}}' for f in functions]
    return "\n".join([*([turn["content"]] if turn["content"] else []), *calls])


def _turns(format: str, content: Mapping[str, Any]) -> tuple[Sequence[Turn], int]:
    """All turns, and the index of the first that may be learnt."""
    if format == "text":
        return (), 0
    if format == "messages":
        return content["messages"], 0
    asked = _as_turns(content["prompt"], "user")
    return [*asked, *_as_turns(content[_ANSWER.get(format, "completion")], "assistant")], len(asked)


def _as_turns(value: Any, role: str) -> Sequence[Turn]:
    return ({"role": role, "content": value},) if isinstance(value, str) else value


def _completion_at(turns: Sequence[Turn], first: int) -> int:
    """Index of the last assistant turn that may be learnt; the number of turns where there is none."""
    for i in range(len(turns) - 1, first - 1, -1):
        if turns[i]["role"] == "assistant" and turns[i].get("weight") != 0:
            return i
    return len(turns)


def _prompt(before: Sequence[tuple[str, str]], turns: Sequence[Turn]) -> str:
    """The turns before the completion. System turns, which many records share, count only where they stand alone."""
    asked = [told for role, told in before if role != "system"]
    return "\n".join(asked or [turn["content"] for turn in turns[: len(before)]])


def kind(format: str, content: Mapping[str, Any]) -> str:
    """What the record is good for, as contracts/records.py and contracts/kinds.py have it."""
    if format == "unpaired_preference":
        if content.get("steps"):
            return "stepwise"
        return format if content["label"] else "undesirable"
    if format in ("text", "preference"):
        return format
    if format == "prompt_completion" and content["completion"] == "":
        return "prompt_only"
    told = (content["messages"],) if format == "messages" else (content["prompt"], content["completion"])
    calls = any(not isinstance(part, str) and any(turn.get("tool_calls") for turn in part) for part in told)
    return "tools" if calls else format


def kind_of(format: str, record: str) -> str:
    """`kind` of a record's canonical JSON."""
    if format == "messages" and '"tool_calls"' not in record:
        return format  # most records are, and need not be parsed for it
    return kind(format, json.loads(record))


def _extra(format: str, content: Mapping[str, Any]) -> list[Any]:
    """What a format adds to turns and completion that is learnt too."""
    extra: list[Any] = []
    if format == "unpaired_preference":
        extra = [content["label"], *(step["label"] for step in content.get("steps") or ())]
    elif format == "preference":
        extra = [[said(turn) for turn in _as_turns(content["rejected"], "assistant")]]
    if content.get("tools"):
        extra.append(content["tools"])
    return extra
