"""A record as the messages before the completion, and the completion: the same for training, evaluation and serving.

Knows the project's prompt, no tokenizer and no template.
"""

from contracts.project import Prompt
from contracts.records import Conversation, Message, PlainText, Preference, Record, turns


def with_system(prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """`messages` behind the project's system prompt, unless they bring one of their own."""
    if prompt.system is None or (messages and messages[0].role == "system"):
        return messages
    return (Message(role="system", content=prompt.system), *messages)


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


def completion_text(record: Record) -> str:
    """What the model should answer; the chosen answer of a preference."""
    if isinstance(record, PlainText):
        return record.text
    messages, _ = all_turns(record)
    at = _completion_at(record)
    return messages[at].content if at < len(messages) else ""


def conversation(prompt: Prompt, record: Record) -> tuple[list[dict[str, str]], str]:
    """Messages before the completion, as chat templates take them, and the completion's text."""
    before = with_system(prompt, prompt_turns(record))
    return [{"role": m.role, "content": m.content} for m in before], completion_text(record)


def _completion_at(record: Record) -> int:
    """Index of the last assistant turn that may be learnt; the number of turns where there is none."""
    messages, first = all_turns(record)
    at = range(len(messages) - 1, first - 1, -1)
    return next((i for i in at if messages[i].role == "assistant"), len(messages))
