"""A conversation as people write it, OpenAI's or ShareGPT's, as the turns of contracts/records.py. Pure.

Sources: OpenAI's chat API (roles, content parts, tool calls, the former function_call), ShareGPT (from, value) and the words
for roles that its users have.
"""

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from contracts.envelope import Malformed, load_json
from contracts.records import RecordInvalid
from contracts.shapes import closest

ROLES: Mapping[str, str] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "customer"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "bot", "model", "ai", "chatbot"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "function_response", "ipython"), "tool"),
}
"""Words for roles, without case."""
MAX_DEPTH = 64
"""Objects and lists within each other; pydantic writes at most 255."""
CALLS = ("function_call", "tool_call")
"""Of these the ones whose text is a call."""
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Kinds of content parts that are text, and where it stands."""
_KEYS = frozenset({
    "role", "from", "content", "value", "name", "tool_calls", "function_call", "tool_call_id", "weight", "refusal",
    "audio", "images", "videos",
})  # fmt: skip
_MEDIA = ("audio", "images", "videos")


def conversation(raw: Any, at: str) -> list[dict[str, Any]]:
    """The turns of a conversation: a list of them, or one alone. `at` is where it stands, for messages.

    A call without an id gets one by its place, and a tool's turn without one answers the calls in their order.

    Raises:
        RecordInvalid: `invalid_field`, or `unsupported_content` where something is no text.
    """
    if isinstance(raw, str) and raw.lstrip()[:1] == "[":
        raw = parsed(raw, at)
    listed: Any = [raw] if isinstance(raw, Mapping) else raw
    if not isinstance(listed, list | tuple):
        raise _invalid(at, f"is {type(raw).__name__}; give a list of turns")
    turns = [turn(item, f"{at}.{place}") for place, item in enumerate(cast(Sequence[Any], listed))]
    _number_calls(turns)
    return turns


def turn(raw: Any, at: str) -> dict[str, Any]:
    """One turn, its calls perhaps without ids.

    Keys that no turn has are passed over (ids, times, thoughts); one that is nearly a known one is misspelt.

    Raises:
        RecordInvalid: as `conversation`.
    """
    if not isinstance(raw, Mapping):
        raise _invalid(at, f"is {type(raw).__name__}; give an object with role and content")
    given = {name: value for name, value in cast(Mapping[str, Any], raw).items() if value is not None}
    _check_keys(given, at)
    word = str(given.get("role", given.get("from"))).lower()
    role = ROLES.get(word)
    if role is None:
        raise _invalid(at, f"has the role {word[:40]!r}; give one of {', '.join(sorted(ROLES))}")
    content = given.get("content", given.get("value", ""))
    if role == "tool" and not _are_parts(content):
        content = json.dumps(content, ensure_ascii=False)  # what a tool gave back, as it is shown to a model
    said = _text(content, f"{at}.content") or _text(given.get("refusal", ""), at)
    made: dict[str, Any] = {"role": role, "content": said}
    if word in CALLS:
        made |= {"content": "", "tool_calls": _calls(parsed(said, at), at)}
    elif calls := given.get("tool_calls") or given.get("function_call"):
        made["tool_calls"] = _calls(calls, f"{at}.tool_calls")
    further = {"tool_call_id": role == "tool", "name": True}
    made |= {name: str(given[name]) for name, fits in further.items() if fits and given.get(name)}
    return made | _weight(given, role, at)


def _check_keys(given: Mapping[str, Any], at: str) -> None:
    for name in given:
        if name not in _KEYS and (near := closest(name, _KEYS)):
            raise _invalid(at, f"has the key {name[:60]!r}; did you mean {near!r}?")
    for name in _MEDIA:
        if given.get(name):
            raise RecordInvalid("unsupported_content", f"record.{at}.{name}: only text can be learnt")


def _weight(given: Mapping[str, Any], role: str, at: str) -> dict[str, int]:
    if "weight" not in given or role != "assistant":
        return {}
    if given["weight"] not in (0, 1):
        raise _invalid(f"{at}.weight", f"is {str(given['weight'])[:20]}; give 0 or 1")
    return {"weight": int(given["weight"])}


def _text(content: Any, at: str) -> str:
    if isinstance(content, str):
        return content
    parts: Any = [content] if isinstance(content, Mapping) else content
    if not isinstance(parts, list | tuple):
        raise _invalid(at, f"is {type(content).__name__}; give a text or a list of text parts")
    return "".join(_part(part, f"{at}.{place}") for place, part in enumerate(cast(Sequence[Any], parts)))


def _are_parts(content: Any) -> bool:
    """Whether content is a text or a list of content parts."""
    if isinstance(content, list):
        return all(isinstance(part, str) or (isinstance(part, Mapping) and "type" in part) for part in content)
    return isinstance(content, str)


def _part(part: Any, at: str) -> str:
    if isinstance(part, str):
        return part
    fields: Mapping[str, Any] = cast(Mapping[str, Any], part) if isinstance(part, Mapping) else {}
    kind = fields.get("type", "text")
    text = fields.get(_TEXT_PARTS.get(str(kind), ""))
    if isinstance(text, str):
        return text
    raise RecordInvalid("unsupported_content", f"record.{at}: a part of the kind {str(kind)[:40]!r} is no text")


def _calls(raw: Any, at: str) -> list[dict[str, Any]]:
    listed: Any = [raw] if isinstance(raw, Mapping) else raw
    if not isinstance(listed, list | tuple) or not listed:
        raise _invalid(at, "is no list of calls")
    return [_call(item, f"{at}.{place}") for place, item in enumerate(cast(Sequence[Any], listed))]


def _call(raw: Any, at: str) -> dict[str, Any]:
    """A call in OpenAI's form: {id, type, function: {name, arguments}}; bare {name, arguments} is one too."""
    given: Mapping[str, Any] = cast(Mapping[str, Any], raw) if isinstance(raw, Mapping) else {}
    inner = given.get("function", given)
    function: Mapping[str, Any] = cast(Mapping[str, Any], inner) if isinstance(inner, Mapping) else {}
    if given.get("type") not in (None, "function") or not isinstance(function.get("name"), str):
        raise _invalid(at, "is no call of a function; give {type: function, function: {name, arguments}}")
    arguments = function.get("arguments", function.get("parameters"))
    called = {"name": function["name"], "arguments": _arguments(arguments, f"{at}.arguments")}
    id = given.get("id")
    return {"id": None if id in (None, "") else str(id), "type": "function", "function": called}


def _arguments(raw: Any, at: str) -> str:
    """The arguments as JSON text: as it was sent, or written from the object that was."""
    if raw is None or raw == "":
        return "{}"
    value = parsed(raw, at) if isinstance(raw, str) else raw
    if not isinstance(value, Mapping):
        raise _invalid(at, "is no JSON object")
    return raw if isinstance(raw, str) else json.dumps(value, ensure_ascii=False)


def _number_calls(turns: Sequence[dict[str, Any]]) -> None:
    waiting: deque[str] = deque()
    count = 0
    for made in turns:
        for call in made.get("tool_calls", ()):
            call["id"] = call["id"] or f"call_{count}"
            count += 1
            waiting.append(call["id"])
        if made["role"] == "tool" and "tool_call_id" not in made and waiting:
            made["tool_call_id"] = waiting.popleft()
        elif made.get("tool_call_id") in waiting:
            waiting.remove(made["tool_call_id"])


def tools(raw: Any, at: str) -> str | None:
    """Tools as the JSON text of a list in OpenAI's form; None for an empty one. OpenAI's former `functions` are tools too.

    Raises:
        RecordInvalid: `invalid_field`.
    """
    value = parsed(raw, at) if isinstance(raw, str) and raw.strip() else raw
    if not value:
        return None
    if not isinstance(value, list | tuple):
        raise _invalid(at, f"is {type(value).__name__}; give a list of tools")
    offered = [_tool(item, f"{at}.{place}") for place, item in enumerate(cast(Sequence[Any], value))]
    return raw if isinstance(raw, str) and offered == value else json.dumps(offered, ensure_ascii=False)


def _tool(raw: Any, at: str) -> Any:
    value = parsed(raw, at) if isinstance(raw, str) else raw
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(cast(Mapping[str, Any], function).get("name"), str):
        raise _invalid(at, "is no tool; give {type: function, function: {name, description, parameters}}")
    if function is not value:
        return value
    return {"type": "function", "function": {k: v for k, v in cast(Mapping[str, Any], value).items() if k != "type"}}


def parsed(text: str, at: str) -> Any:
    """The JSON value of a text within a record.

    Raises:
        RecordInvalid: `invalid_field`: it is no JSON.
    """
    try:
        value = load_json(text.encode())
        if nested_deeper(value, MAX_DEPTH):
            raise _invalid(at, f"is nested deeper than {MAX_DEPTH} levels")
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # an escape may be half of a surrogate pair
    except Malformed as error:
        raise _invalid(at, f"is text but no JSON: {error}"[:300]) from error
    except UnicodeEncodeError as error:
        raise _invalid(at, "holds half of a surrogate pair, which is no character") from error
    return value


def nested_deeper(value: Any, most: int) -> bool:
    """Whether objects and lists stand more than `most` deep in each other. Level by level, so that no depth ends it."""
    level: list[Any] = [value]
    for _ in range(most + 1):
        level = [each for part in level if isinstance(part, dict | list) for each in _inside(part)]
        if not level:
            return False
    return True


def _inside(part: Any) -> Iterable[Any]:
    return cast(Iterable[Any], part.values() if isinstance(part, dict) else part)


def _invalid(at: str, what: str) -> RecordInvalid:
    return RecordInvalid("invalid_field", f"record.{at} {what}")
