"""A call as OpenInference tells it: flattened messages, else the request and the answer as they went over the wire."""

import json
from typing import Any, cast

from contracts.records import RecordInvalid
from services.ingestion.domain.traces import names
from services.ingestion.domain.traces.spans import Call, Span, mapping, nested, numbered, structured


def call(span: Span) -> Call | None:
    """The call of a span; None where it holds no content."""
    about = span.attributes
    asked = [_turn(each) for each in numbered(nested(about, names.OI_INPUT))]
    answers = [_turn(each) for each in numbered(nested(about, names.OI_OUTPUT))]
    offered = [_tool(each) for each in numbered(nested(about, names.OI_TOOLS))]
    if not answers or not asked:
        seen = _of_values(about.get(names.VALUE_IN), about.get(names.VALUE_OUT))
        asked, answers = asked or seen[0], answers or seen[1]
    if not asked and not answers:
        return None
    if len(answers) > 1 and _choices(about.get(names.OI_PARAMETERS)) < 2:
        answers = [_joined(answers)]
    model = about.get(names.OI_MODEL)
    tools = [tool for tool in offered if tool]
    return Call(asked, answers, tools or None, model if isinstance(model, str) else None)


def _turn(node: Any) -> dict[str, Any]:
    said = mapping(mapping(node).get("message"))
    turn = {name: said[name] for name in ("role", "content", "name", "tool_call_id") if name in said}
    if parts := numbered(said.get("contents")):
        turn["content"] = [_part(mapping(mapping(each).get("message_content"))) for each in parts]
    if calls := numbered(said.get("tool_calls")):
        turn["tool_calls"] = [_call(mapping(mapping(each).get("tool_call"))) for each in calls]
    elif name := said.get("function_call_name"):
        turn["function_call"] = {"name": name, "arguments": said.get("function_call_arguments_json")}
    return turn


def _part(content: dict[str, Any]) -> dict[str, Any]:
    kind = content.get("type", "text")
    return {"type": kind, "text": content["text"]} if "text" in content else {"type": kind}


def _call(node: dict[str, Any]) -> dict[str, Any]:
    return {"id": node.get("id"), "type": "function", "function": mapping(node.get("function"))}


def _tool(node: Any) -> Any:
    """A tool's schema: OpenAI's form, or with its parts at the top as the Responses API and Anthropic have them."""
    schema = mapping(node).get("tool")
    found = mapping(schema).get("json_schema")
    tool = mapping(structured(found, names.OI_TOOLS)) if found else {}
    if "input_schema" in tool and "parameters" not in tool:
        tool = {**{k: v for k, v in tool.items() if k != "input_schema"}, "parameters": tool["input_schema"]}
    return tool if mapping(tool.get("function", tool)).get("name") else None


def _choices(parameters: Any) -> int:
    """How many answers were asked for. More messages than that are parts of one answer, as the Responses API gives them."""
    try:
        asked = mapping(structured(parameters, names.OI_PARAMETERS)) if parameters else {}
    except RecordInvalid:
        return 1
    wanted = asked.get("n") or asked.get("candidate_count")
    return wanted if isinstance(wanted, int) else 1


def _joined(turns: list[dict[str, Any]]) -> dict[str, Any]:
    said = [part for turn in turns for part in _as_parts(turn.get("content"))]
    calls = [each for turn in turns for each in turn.get("tool_calls", ())]
    return {"role": "assistant", "content": said} | ({"tool_calls": calls} if calls else {})


def _as_parts(content: Any) -> list[Any]:
    return cast(list[Any], content) if isinstance(content, list) else [content] if content else []


def _of_values(asked: Any, answered: Any) -> tuple[list[Any], list[Any]]:
    """The turns of a request and of an answer, each in OpenAI's form or plain text."""
    request, answer = _json(asked), _json(answered)
    turns = request.get("messages") if request else None
    choices = answer.get("choices") if answer else None
    before = cast(list[Any], turns) if isinstance(turns, list) else _said("user", asked if not request else None)
    if isinstance(choices, list):
        return before, [mapping(each).get("message") for each in cast(list[Any], choices) if mapping(each)]
    return before, _said("assistant", answered if not answer else None)


def _json(value: Any) -> dict[str, Any]:
    """The object that a text is, else {}: whatever is no JSON is plain text."""
    try:
        return mapping(json.loads(value)) if isinstance(value, str) else {}
    except (ValueError, RecursionError):
        return {}


def _said(role: str, text: Any) -> list[Any]:
    return [{"role": role, "content": text}] if isinstance(text, str) and text else []
