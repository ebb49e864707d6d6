"""The output items of a response as they grow, and the events that tell of it. Knows neither requests nor bytes.

Source: https://platform.openai.com/docs/api-reference/responses-streaming; the openai client's types of events.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal

from services.serving.domain.tool_calls import Arguments, CallBegun, Content, Delta

Event = tuple[str, dict[str, Any]]
"""An event's type and its fields beside that and its number."""
_Ended = Literal["completed", "incomplete"]


class Output:
    """The items of one response; all but the last are over."""

    def __init__(self, name: str) -> None:
        """`name`: of the response; its items' ids have it."""
        self._name = name
        self.items: list[dict[str, Any]] = []

    def take(self, delta: Delta, logprobs: Sequence[dict[str, Any]] = ()) -> list[Event]:
        """The events of what the model wrote next, with `logprobs` of its tokens: a text is an item, and each call is one."""
        match delta:
            case Content(text):
                return [*self._message(), *self._text(text, logprobs)]
            case CallBegun(_, id, name):
                call = {"type": "function_call", "arguments": "", "call_id": id, "name": name}
                return [*self._over(), *self._add("fc", call)]
            case Arguments(_, text):
                self._last["arguments"] += text
                return [("response.function_call_arguments.delta", {**self._place(), "delta": text})]

    def close(self, status: _Ended, logprobs: Sequence[dict[str, Any]] = ()) -> list[Event]:
        """The events of the end, after `logprobs` of tokens that made no text. An answer without a word is an empty text."""
        events = [] if self.items else self._message()
        if logprobs and self._last["type"] == "message":
            events += self._text("", logprobs)
        return events + self._over(status)

    @property
    def _last(self) -> dict[str, Any]:
        return self.items[-1]

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._last["id"], "output_index": len(self.items) - 1}

    def _add(self, prefix: str, item: dict[str, Any]) -> list[Event]:
        self.items.append({"id": f"{prefix}_{self._name}{len(self.items):04x}", "status": "in_progress", **item})
        return [("response.output_item.added", self._item())]

    def _item(self) -> dict[str, Any]:
        return {"output_index": len(self.items) - 1, "item": deepcopy(self._last)}

    def _message(self) -> list[Event]:
        """Begins a message where none is at work."""
        if self.items and self._last["type"] == "message":
            return []
        events = [*self._over(), *self._add("msg", {"type": "message", "role": "assistant", "content": []})]
        part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self._last["content"].append(part)
        return [*events, ("response.content_part.added", {**self._place(), "content_index": 0, "part": deepcopy(part)})]

    def _text(self, text: str, logprobs: Sequence[dict[str, Any]]) -> list[Event]:
        (part,) = self._last["content"]
        part["text"] += text
        part["logprobs"] += logprobs
        told = {"content_index": 0, "delta": text, "logprobs": list(logprobs)}
        return [("response.output_text.delta", {**self._place(), **told})]

    def _over(self, status: _Ended = "completed") -> list[Event]:
        """Ends the item at work."""
        if not self.items or self._last["status"] != "in_progress":
            return []
        self._last["status"] = status
        place = self._place()
        if self._last["type"] == "message":
            part = deepcopy(self._last["content"][0])
            said = {**place, "content_index": 0}
            events: list[Event] = [
                ("response.output_text.done", {**said, "text": part["text"], "logprobs": part["logprobs"]}),
                ("response.content_part.done", {**said, "part": part}),
            ]
        else:
            said = {"arguments": self._last["arguments"], "name": self._last["name"]}
            events = [("response.function_call_arguments.done", {**place, **said})]
        return [*events, ("response.output_item.done", self._item())]
