"""A call as OpenLLMetry told it before it took over GenAI's names: gen_ai.prompt.N and gen_ai.completion.N."""

from typing import Any, cast

from contracts.records import RecordInvalid
from services.ingestion.domain.traces import names
from services.ingestion.domain.traces.spans import Call, Span, first, mapping, nested, numbered, structured


def call(span: Span) -> Call | None:
    """The call of a span; None where it is not told so."""
    about = span.attributes
    asked = [_turn(mapping(each), "user") for each in numbered(nested(about, names.OL_INPUT))]
    answers = [_turn(mapping(each), "assistant") for each in numbered(nested(about, names.OL_OUTPUT))]
    if not asked and not answers:
        return None
    tools = [_tool(mapping(each)) for each in numbered(nested(about, names.OL_TOOLS))]
    return Call(asked, answers, [tool for tool in tools if tool] or None, first(about, names.GENAI_MODELS))


def _turn(node: dict[str, Any], role: str) -> dict[str, Any]:
    turn = {"role": node.get("role") or role, "content": _content(node.get("content"))}
    if calls := numbered(node.get("tool_calls")):
        turn["tool_calls"] = [_call(mapping(each)) for each in calls]
    if id := node.get("tool_call_id"):
        turn["tool_call_id"] = id
    return turn


def _call(node: dict[str, Any]) -> dict[str, Any]:
    return {"id": node.get("id"), "function": {name: node.get(name) for name in ("name", "arguments")}}


def _content(content: Any) -> Any:
    """A text, or the content parts that stand in it as JSON."""
    if not isinstance(content, str) or not content.startswith('[{"'):
        return content
    try:
        parts = structured(content, names.OL_INPUT)
    except RecordInvalid:
        return content
    return parts if all("type" in mapping(part) for part in cast(list[Any], parts)) else content


def _tool(node: dict[str, Any]) -> dict[str, Any] | None:
    if not isinstance(node.get("name"), str):
        return None
    given = {name: node[name] for name in ("name", "description") if node.get(name)}
    if parameters := node.get("parameters"):
        given["parameters"] = structured(parameters, names.OL_TOOLS)
    return {"type": "function", "function": given}
