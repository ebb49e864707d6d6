"""A record as the messages before the completion, and the completion: the same for training, evaluation and serving.

Knows the project's prompt, no tokenizer and no template.
"""

from contracts.project import Prompt
from contracts.records import Conversation, Message, PlainText, PromptCompletion, Record, UnpairedPreference, turns


def with_system(prompt: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """`messages` behind the project's system prompt, unless they bring one of their own."""
    if prompt.system is None or (messages and messages[0].role == "system"):
        return messages
    return (Message(role="system", content=prompt.system), *messages)


def prompt_turns(record: Record) -> tuple[Message, ...]:
    """The turns before the completion; empty for plain text."""
    match record:
        case PlainText():
            return ()
        case Conversation():
            return record.messages[: _last_assistant(record.messages)]
        case _:
            return turns(record.prompt, "user")


def completion_text(record: Record) -> str:
    """What the model should answer; the chosen answer of a preference."""
    match record:
        case PlainText():
            return record.text
        case Conversation():
            at = _last_assistant(record.messages)
            return record.messages[at].content if at < len(record.messages) else ""
        case PromptCompletion() | UnpairedPreference():
            return _joined(turns(record.completion, "assistant"))
        case _:
            return _joined(turns(record.chosen, "assistant"))


def conversation(prompt: Prompt, record: Record) -> tuple[list[dict[str, str]], str]:
    """Messages before the completion, as chat templates take them, and the completion's text."""
    before = with_system(prompt, prompt_turns(record))
    return [{"role": m.role, "content": m.content} for m in before], completion_text(record)


def _last_assistant(messages: tuple[Message, ...]) -> int:
    """Index of the last assistant turn; the number of messages where there is none."""
    return next((i for i in range(len(messages) - 1, -1, -1) if messages[i].role == "assistant"), len(messages))


def _joined(messages: tuple[Message, ...]) -> str:
    return "\n".join(m.content for m in messages)
