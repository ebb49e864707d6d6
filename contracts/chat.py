"""A record as the messages before the completion, and the completion: the same for training, evaluation and serving.

Knows the project's prompt, rendered where it was a template; no tokenizer and no template.
"""

import json
from typing import Any

from contracts.prompt import Prompt
from contracts.records import Conversation, Message, PlainText, Preference, Record, UnpairedPreference, kind, turns


def with_system(prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """`messages` behind the project's system prompt and examples, unless they bring a system prompt of their own.

    Whoever brings one stands alone: the project's examples were written for the project's instruction.

    Raises:
        ValueError: the prompt is a template still; services/lm/prompt_template.py renders it.
    """
    if messages and messages[0].role == "system":
        return messages
    if prompt.variables:
        raise ValueError("the system prompt is a template; render it before it stands in a conversation")
    system = () if prompt.system is None else (Message(role="system", content=prompt.system),)
    shown = (
        turn
        for example in prompt.examples
        for turn in (
            Message(role="user", content=example.user),
            Message(role="assistant", content=example.assistant),
        )
    )
    return (*system, *shown, *messages)


def all_turns(record: Record) -> tuple[tuple[Message, ...], int]:
    """All turns of a record, of a preference the chosen ones, and the index of the first that may be learnt.

    Plain text has none.
    """
    match record:
        case PlainText():
            return (), 0
        case Conversation():
            return record.messages, 0
        case _:
            asked = turns(record.prompt, "user")
            said = record.chosen if isinstance(record, Preference) else record.completion
            return (*asked, *turns(said, "assistant")), len(asked)


def prompt_turns(record: Record) -> tuple[Message, ...]:
    """The turns before the completion: the last assistant's turn of those that may be learnt; empty for plain text."""
    messages, _ = all_turns(record)
    return messages[: _completion_at(record)]


def completion_turn(record: Record) -> Message | None:
    """The turn that the model should give: the chosen one of a preference; None for plain text and where there is none."""
    messages, _ = all_turns(record)
    at = _completion_at(record)
    return messages[at] if at < len(messages) else None


def completion_text(record: Record) -> str:
    """What the model should answer, calls of tools in words; the chosen answer of a preference."""
    if isinstance(record, PlainText):
        return record.text
    turn = completion_turn(record)
    return said(turn) if turn else ""


def unfit(record: Record) -> str | None:
    """Why a record is nothing that an answer is measured on: `preference`, `stepwise` or `no_completion`."""
    if isinstance(record, Preference) or (isinstance(record, UnpairedPreference) and not record.label):
        return "preference"
    if kind(record) == "stepwise":
        return "stepwise"
    return None if completion_text(record).strip() else "no_completion"


def said(turn: Message) -> str:
    """What a turn says, its calls of tools in words, whatever a base's template makes of them."""
    if not turn.tool_calls:
        return turn.content
    calls = [f'{{"name": {json.dumps(c.function.name)}, "arguments": {c.function.arguments}}}' for c in turn.tool_calls]
    return "\n".join([*([turn.content] if turn.content else []), *calls])


def as_sent(turn: Message) -> dict[str, Any]:
    """A turn as OpenAI's API and chat templates take it. `weight` is the trainer's and shown to no model."""
    if len(turn.__pydantic_fields_set__) == 2:
        return {"role": turn.role, "content": turn.content}
    return turn.model_dump(mode="json", exclude={"weight"})


def offered_tools(prompt: Prompt, record: Record) -> list[dict[str, Any]]:
    """The tools that a record's conversation may call: its own, else the project's; none of plain text.

    Raises:
        ValueError: they are no JSON; the door lets none such pass.
    """
    if isinstance(record, PlainText):
        return []
    return json.loads(record.tools) if record.tools else [tool.body() for tool in prompt.tools]


def template_variables(record: Record) -> dict[str, Any]:
    """Further variables of the chat template that the record brings."""
    return {} if isinstance(record, PlainText) else dict(record.chat_template_kwargs or {})


def conversation(prompt: Prompt, record: Record) -> tuple[list[dict[str, Any]], str]:
    """Messages before the completion, as chat templates take them, and the completion's text."""
    before = with_system(prompt, prompt_turns(record))
    return [as_sent(turn) for turn in before], completion_text(record)


def is_learnt(turn: Message) -> bool:
    """Whether a turn is the assistant's and may be learnt: its weight is not 0."""
    return turn.role == "assistant" and turn.weight != 0


def _completion_at(record: Record) -> int:
    """Index of the last assistant turn that may be learnt; the number of turns where there is none."""
    messages, first = all_turns(record)
    at = range(len(messages) - 1, first - 1, -1)
    return next((i for i in at if is_learnt(messages[i])), len(messages))
