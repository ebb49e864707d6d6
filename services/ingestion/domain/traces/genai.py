"""A call as OpenTelemetry's GenAI conventions tell it: by attributes, by one event, or by an event a message."""

import json
from collections.abc import Iterable
from typing import Any, cast

from services.ingestion.domain.traces import names
from services.ingestion.domain.traces.spans import Attributes, Call, Span, first, items, mapping, structured


def call(span: Span) -> Call | None:
    """The call of a span; None where it is told in no way of these.

    Raises:
        RecordInvalid: a message is none.
    """
    about = _with_details(span)
    answers = [turn for message in items(about.get(names.OUTPUT), names.OUTPUT) for turn in turns(message)]
    if answers:
        system = items(about.get(names.SYSTEM), names.SYSTEM)
        before, places = turns({"role": "system", "parts": system}) if system else [], None
        asked = [turn for message in items(about.get(names.INPUT), names.INPUT) for turn in turns(message)]
        offered = items(about.get(names.TOOLS), names.TOOLS)
    else:
        before, offered = [], items(about.get(names.TOOLS), names.TOOLS)
        asked, answers, places = _of_events(span)
    if not asked and not answers:
        return None
    model = first(span.attributes, names.GENAI_MODELS)
    return Call([*before, *asked], answers, _functions(offered) or None, model, places)


def _with_details(span: Span) -> Attributes:
    details = [attributes for name, attributes in span.events if name == names.DETAILS]
    return {**details[-1], **span.attributes} if details else span.attributes


def _functions(tools: list[Any]) -> list[Any]:
    """Tools that the application runs; those of the provider's side (web search) have no schema and nobody learns them."""
    return [tool for tool in tools if mapping(tool).get("type", "function") == "function"]


def turns(message: Any) -> list[Any]:
    """A message as OpenAI's turns: results of tools stand as turns of their own, thoughts are left out."""
    given = mapping(message)
    parts = given.get("parts")
    if not isinstance(parts, list):
        return [message]  # in OpenAI's own form
    results, said, calls = list[Any](), list[Any](), list[Any]()
    for part in map(mapping, cast(list[Any], parts)):
        match part.get("type"):
            case "tool_call_response":
                results.append({"role": "tool", "tool_call_id": part.get("id"), "content": _result(part)})
            case "tool_call":
                calls.append({"id": part.get("id"), "function": {k: part.get(k) for k in ("name", "arguments")}})
            case "reasoning":
                pass
            case "text":
                said.append({"type": "text", "text": part.get("content")})
            case kind:
                said.append({"type": str(kind)})  # no text: refused by that name
    if results and not said and not calls:
        return results
    turn = {"role": given.get("role"), "content": said, "name": given.get("name")}
    return [*results, turn | ({"tool_calls": calls} if calls else {})]


def _result(part: dict[str, Any]) -> Any:
    """What a tool gave back; older instrumentations call it `result`."""
    found = part.get("response", part.get("result"))
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _of_events(span: Span) -> tuple[list[Any], list[Any], list[int]]:
    """(what was asked, the answers that say something, their places among all of the call's answers)."""
    asked, answers, indexes = list[Any](), list[Any](), list[Any]()
    for name, attributes in span.events:
        if name in names.MESSAGE_EVENTS:
            asked.append(_message(attributes, names.MESSAGE_EVENTS[name]))
        elif name == names.CHOICE:
            body = _body(attributes)
            answers.append(_message(mapping(structured(body.get("message"), names.CHOICE)) or body, "assistant"))
            indexes.append(body.get(names.INDEX))
        elif name == names.PROMPT_EVENT:
            asked += items(attributes.get(names.PROMPT_JSON), names.PROMPT_EVENT)
        elif name == names.COMPLETION_EVENT:
            answers += items(attributes.get(names.COMPLETION_JSON), names.COMPLETION_EVENT)
    said = [place for place, answer in enumerate(answers) if _says(answer)]
    told = len(indexes) == len(answers) == len({i for i in indexes if type(i) is int and i >= 0})
    places = [indexes[place] for place in said] if told else list(range(len(said)))
    return asked, [answers[place] for place in said], places


def says(name: str, attributes: Attributes) -> bool:
    """Whether an event tells a text or a call of a tool: without contents an instrumentation names the roles alone.

    Raises:
        RecordInvalid: a part of it is JSON that was cut off.
    """
    asked, answers, _ = _of_events(Span("", "", {}, events=((name, attributes),)))
    return bool(answers) or any(_says(turn) for turn in asked)


def _body(attributes: Attributes) -> dict[str, Any]:
    inner = attributes.get(names.BODY)
    return mapping(structured(inner, names.BODY)) if inner else dict(attributes)


def _message(attributes: Attributes, role: str) -> dict[str, Any]:
    body = _body(attributes)
    turn = {"role": body.get("role") or role} | {k: body[k] for k in ("content", "name") if k in body}
    if calls := body.get("tool_calls"):
        turn["tool_calls"] = structured(calls, "tool_calls")
    if turn["role"] == "tool":
        turn["tool_call_id"] = body.get("tool_call_id") or body.get("id")
    return turn


def _says(turn: Any) -> bool:
    given = mapping(turn)
    return bool(given.get("content") or any(_has_arguments(each) for each in _calls(given)))


def _calls(turn: dict[str, Any]) -> Iterable[Any]:
    calls = turn.get("tool_calls")
    return cast(list[Any], calls) if isinstance(calls, list) else ()


def _has_arguments(call: Any) -> bool:
    """Whether a call tells its arguments: without contents an instrumentation names the tool alone."""
    return "arguments" in mapping(mapping(call).get("function", call))
