"""How a chat template writes tools and calls of them, and what is written for one that has no words for them.

Sources: https://huggingface.co/docs/transformers/chat_extras (the variable `tools`, calls whose arguments are objects), the
prompt of https://github.com/NousResearch/Hermes-Function-Calling, which Qwen's templates write too.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic_core import from_json

from services.lm.errors import TextRefused

ToolFormat = Literal["hermes", "llama3", "mistral"]
MARKERS: Mapping[ToolFormat, str] = {"hermes": "<tool_call>", "llama3": "<|python_tag|>", "mistral": "[TOOL_CALLS]"}
"""What a model writes before a call."""
_ASKED, _NAME = "Question-5107", "tool_6203"
_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {"name": _NAME, "description": "A tool.", "parameters": {"type": "object", "properties": {}}},
}
_WRITTEN: Mapping[ToolFormat, re.Pattern[str]] = {
    "hermes": re.compile(r"<tool_call>\s*\{"),
    "mistral": re.compile(r"\[TOOL_CALLS\]\s*\["),
    "llama3": re.compile(r'\{\s*"name":\s*"tool_6203",\s*"parameters":'),
}
_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")
_GENERIC = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""

Message = Mapping[str, Any]


def tool_format(render: Callable[..., Any]) -> ToolFormat | None:
    """The form in which a template writes calls, found by rendering one; None where it shows no tools or writes another."""
    call = {"id": "a1b2c3d4e", "type": "function", "function": {"name": _NAME, "arguments": {"word": "a"}}}
    asked = {"role": "user", "content": _ASKED}
    said = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "a1b2c3d4e", "name": _NAME, "content": "b"}
    try:
        if _NAME not in render([asked], tools=[_TOOL]).text:
            return None
        written = render([asked, said, result], tools=[_TOOL]).text.rpartition(_ASKED)[2]
    except TextRefused:
        return None
    return next((name for name, pattern in _WRITTEN.items() if pattern.search(written)), None)


def with_tools(
    format: ToolFormat | None, messages: Sequence[Message], tools: Sequence[Message]
) -> tuple[list[dict[str, Any]], Sequence[Message]]:
    """OpenAI's turns and tools as a template of this format takes them.

    A template without a format gets them as words: the tools in the system's turn, calls in Hermes' form, results as the
    user's. A conversation in which nobody thought of tools stays as it is.
    """
    if format is not None:
        calls = [call for message in messages for call in message.get("tool_calls") or ()]
        names = {call["id"]: call["function"]["name"] for call in calls}
        return [_turn(message, format, names) for message in messages], tools
    if not tools and not any(message.get("tool_calls") for message in messages):
        return [dict(message) for message in messages], ()
    return _generic(messages, tools), ()


def _turn(message: Message, format: ToolFormat, names: Mapping[str, str]) -> dict[str, Any]:
    """Arguments become objects and a result names its tool, as templates expect it; Mistral's want ids of nine characters."""
    turn = dict(message)
    if message.get("tool_calls"):
        turn["tool_calls"] = [
            {**call, "id": _id(str(call["id"]), format), "function": _function(call)} for call in message["tool_calls"]
        ]
    if id := message.get("tool_call_id"):
        turn = {"name": names.get(id), **turn, "tool_call_id": _id(str(id), format)}
    return turn


def _function(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = call["function"]["arguments"]
    return {
        "name": call["function"]["name"],
        "arguments": _object(arguments) if isinstance(arguments, str) else arguments,
    }


def _object(arguments: str) -> Any:
    """The object of a JSON text; the text itself where it is none, so that a broken call stands as it was written."""
    try:
        value: Any = from_json(arguments, allow_inf_nan=False)
    except ValueError:
        return arguments
    return value if isinstance(value, dict) else arguments


def _id(id: str, format: ToolFormat) -> str:
    plain = format != "mistral" or _MISTRAL_ID.fullmatch(id)
    return id if plain else hashlib.sha256(id.encode()).hexdigest()[:9]


def _generic(messages: Sequence[Message], tools: Sequence[Message]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    answered = False
    for message in messages:
        if message["role"] != "tool":
            turns.append({"role": message["role"], "content": in_words(message)})
        elif answered:
            turns[-1]["content"] += "\n" + _response(message)
        else:
            turns.append({"role": "user", "content": _response(message)})
        answered = message["role"] == "tool"
    if not tools:
        return turns
    listed = _GENERIC.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    system = turns.pop(0)["content"] if turns[0]["role"] == "system" else ""
    return [{"role": "system", "content": f"{system}\n\n{listed}" if system else listed}, *turns]


def in_words(message: Message) -> str:
    """What an assistant's turn says where a template has no words for calls: its content, then its calls in Hermes' form."""
    calls = [
        f"<tool_call>\n{json.dumps(_function(call), ensure_ascii=False)}\n</tool_call>"
        for call in message.get("tool_calls") or ()
    ]
    return "\n".join([*([message["content"]] if message["content"] else []), *calls])


def _response(message: Message) -> str:
    return f"<tool_response>\n{message['content']}\n</tool_response>"
