"""A teacher's answer as it comes, read as this gateway's own models write theirs: text, calls of tools in Hermes' form.

So all that reads an answer here, the record of it too, knows one form. Knows no connection.
Source: https://platform.openai.com/docs/api-reference/chat/streaming and .../completions/object.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from services.serving.domain.answers import Usage
from services.serving.domain.errors import TeacherFailed

_END = "}\n</tool_call>\n"
_REASONS = {"stop": "stop", "tool_calls": "stop", "function_call": "stop", "length": "length"}
"""What the forms make of calls they see themselves; `content_filter` is told as it is."""
MOST_CHARACTERS = 400_000
"""Of an answer: its record must fit into a Kafka message."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What an event adds: text, why the answer ended, the tokens; None where it does not tell."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    is_alive: bool = False
    """Whether the model went on: with its thoughts, maybe, which are not told."""


def nonsense(what: str) -> TeacherFailed:
    """The fault of an answer that cannot be read."""
    return TeacherFailed(f"The teacher's answer cannot be read: {what}.", "teacher_nonsense")


class TeacherReader:
    """Reads one answer: `take` each object in its order."""

    def __init__(self) -> None:
        self._call = -1
        """Of the last call, by the teacher's count."""
        self._open = False
        """Whether its arguments still come."""
        self._bare = False
        """Whether nothing of them came yet."""
        self._length = 0
        self.ended = False

    def take(self, given: Any) -> Piece:
        """What an object of the stream, or a whole answer, adds.

        Raises:
            TeacherFailed: it is an error, or none of OpenAI's objects.
        """
        if not isinstance(given, dict):
            raise nonsense("an object of its stream is none")
        read = cast(dict[str, Any], given)
        if read.get("error"):
            error = read["error"]
            said = cast(dict[str, Any], error).get("message") if isinstance(error, dict) else error
            raise TeacherFailed(f"The teacher broke its answer off: {str(said)[:300]}", "teacher_failed")
        choices = read.get("choices")
        if not isinstance(choices, list):
            raise nonsense("it has no 'choices'")
        usage = _usage(read.get("usage"))
        if not choices:
            return Piece(usage=usage)
        choice: Any = cast(list[Any], choices)[0]
        if not isinstance(choice, dict):
            raise nonsense("a choice is no object")
        return self._choice(cast(dict[str, Any], choice), usage)

    def _choice(self, choice: Mapping[str, Any], usage: Usage | None) -> Piece:
        said: Any = choice.get("delta") or choice.get("message") or {}
        if not isinstance(said, dict):
            raise nonsense("what a choice says is no object")
        delta = cast(dict[str, Any], said)
        texts = [part for part in (choice.get("text"), delta.get("content"), delta.get("refusal")) if part is not None]
        calls: Any = delta.get("tool_calls") or []
        if not all(isinstance(text, str) for text in texts) or not isinstance(calls, list):
            raise nonsense("the text of a choice is none")
        text = "".join(cast(list[str], texts))
        text = self._close() + text if text else ""
        for at, call in enumerate(cast(list[Any], calls)):
            text += self._called(call, at)
        reason = choice.get("finish_reason")
        if reason is not None:
            text, self.ended = text + self._close(), True
            reason = _REASONS.get(str(reason), str(reason) if reason == "content_filter" else "stop")
        self._length += len(text)
        if self._length > MOST_CHARACTERS:
            raise nonsense(f"it has more than {MOST_CHARACTERS} characters")
        went_on = bool(text or reason) or any(value for name, value in delta.items() if name != "role")
        return Piece(text, reason, usage, went_on)

    def _called(self, call: Any, at: int) -> str:
        """A part of a call: one with another index ends the one before."""
        try:
            index, function = call.get("index", at), call.get("function") or {}
            name, more = function.get("name"), _text(function.get("arguments") or "")
            begun = ""
            if index != self._call:
                if index < self._call:
                    raise nonsense("its calls come mixed")
                begun = self._close() + f'<tool_call>\n{{"name": {json.dumps(_text(name))}, "arguments": '
                self._call, self._open, self._bare = index, True, True
            elif not self._open:
                raise nonsense("a call goes on behind its end")
        except (AttributeError, TypeError) as error:
            raise nonsense("a call of a tool is none") from error
        self._bare = self._bare and not more
        return begun + more

    def _close(self) -> str:
        """The end of the call that is open."""
        if not self._open:
            return ""
        self._open = False
        return ("{}" if self._bare else "") + _END


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _usage(given: Any) -> Usage | None:
    if not isinstance(given, dict):
        return None
    read = cast(dict[str, Any], given)
    prompt, completion = read.get("prompt_tokens"), read.get("completion_tokens", 0)
    if type(prompt) is not int or type(completion) is not int or prompt < 0 or completion < 0:
        return None
    return Usage(prompt, completion)
