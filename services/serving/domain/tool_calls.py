"""Tool calls in what a model writes, read as it comes: content and calls, the same whatever pieces the text comes in.

Read are the forms of Hermes and Qwen (<tool_call>{json}</tool_call>), Llama 3 (json with "name" and "parameters", behind
<|python_tag|> or as the whole answer) and Mistral ([TOOL_CALLS] [{json}, ...]). A call names one of the request's tools and
has an object of arguments; whatever is none stays content, to the letter. Knows neither OpenAI's bodies nor templates.
Sources: https://huggingface.co/docs/transformers/chat_extras, https://github.com/NousResearch/Hermes-Function-Calling,
https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1, vLLM's vllm/tool_parsers.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from services.lm.tool_format import MARKERS, ToolFormat
from services.serving.domain.call_object import CallObject

_BLANKS = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Content:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """The model calls the tool `name`; `index` counts the answer's calls from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """More of the JSON text of a call's arguments, as the model wrote it."""

    index: int
    text: str


Delta = Content | CallBegun | Arguments


@dataclass(frozen=True, slots=True)
class _Form:
    """How calls are written: behind a `marker`, some `between`, up to a `closer`; `bare` also as the whole answer."""

    marker: str
    opener: str = ""
    between: str = ""
    closer: str = ""
    bare: bool = False


_FORMS: Mapping[ToolFormat, _Form] = {
    "hermes": _Form(MARKERS["hermes"], closer="</tool_call>"),
    "llama3": _Form(MARKERS["llama3"], between=";,", bare=True),
    "mistral": _Form(MARKERS["mistral"], opener="[", between=",", closer="]"),
}


class ToolCallParser:
    """Reads one answer: `feed` its pieces, then `finish`. The pieces' deltas, joined, do not depend on where it was cut."""

    def __init__(
        self, format: ToolFormat, names: Collection[str], new_id: Callable[[], str], parallel: bool = True
    ) -> None:
        self._form = _FORMS[format]
        self._names = names
        self._new_id = new_id
        self._most = None if parallel else 1
        self._state: Callable[[str], None] = self._start if self._form.bare else self._text
        self._held = ""
        """Read and not given yet: blanks, and what may become a marker or a call."""
        self._mark = ""
        """The end of `_held` that may become a marker or closer."""
        self._call = CallObject()
        self._out: list[Delta] = []
        self.calls = 0

    def feed(self, text: str) -> list[Delta]:
        """What the next piece of the answer adds."""
        for char in text:
            self._state(char)
        return self._given()

    def finish(self) -> list[Delta]:
        """What is left: a call that had not begun is content. Blanks next to a call are none."""
        if self._state != self._tail and (self._held.strip() or not self.calls):
            self._say(self._held)
        self._held = self._mark = ""
        return self._given()

    def _given(self) -> list[Delta]:
        given, self._out = _joined(self._out), []
        return [d for d in given if isinstance(d, Content) or self._most is None or d.index < self._most]

    def _say(self, text: str) -> None:
        if text:
            self._out.append(Content(text))

    def _start(self, char: str) -> None:
        """Before the first word of an answer that may be a call as a whole."""
        if char in _BLANKS:
            self._held += char
            return
        if char == "{":
            self._open(char)
            return
        self._state = self._text
        self._text(char)

    def _text(self, char: str) -> None:
        """In the content, where a marker may begin."""
        if char in _BLANKS and not self._mark:
            self._held += char
            return
        self._held += char
        self._mark += char
        marker = self._form.marker
        while self._mark and not marker.startswith(self._mark):
            self._mark = self._mark[1:]
        if self._mark == marker:
            self._mark, self._state = "", self._opened
            return
        free = len(self._held) - len(self._mark)
        said = self._held[:free].rstrip(_BLANKS)
        self._say(said)
        self._held = self._held[len(said) :]

    def _opened(self, char: str) -> None:
        """Behind a marker, before the object."""
        if char == "{":
            self._open(char)
        elif char in _BLANKS or (char == self._form.opener and not self._held.rstrip(_BLANKS).endswith(char)):
            self._held += char
        else:
            self._none(char)

    def _open(self, char: str) -> None:
        self._call, self._state = CallObject(), self._calling
        self._calling(char)

    def _calling(self, char: str) -> None:
        """In an object that may be a call; once it has begun its arguments are given as they come."""
        call, begun = self._call, self._call.begun
        self._held += "" if begun else char
        call.read(char)
        if call.foreign:
            self._none("")
            return
        if call.begun and not begun:
            if call.name not in self._names:
                self._none("")
                return
            self._begin(call.name or "")
        if call.inside:
            self._out.append(Arguments(self.calls - 1, char))
        if call.over and not call.begun:
            said = call.whole()
            if said is None or said[0] not in self._names:
                self._none("")
                return
            self._begin(said[0])
            self._out.append(Arguments(self.calls - 1, said[1]))
        if call.over:
            self._state = self._tail

    def _begin(self, name: str) -> None:
        self._held = ""
        self._out.append(CallBegun(self.calls, self._new_id(), name))
        self.calls += 1

    def _none(self, char: str) -> None:
        """What was held is no call: it is content, and so is what follows, up to the next marker."""
        self._say(self._held)
        self._held, self._state = "", self._text
        if char:
            self._text(char)

    def _tail(self, char: str) -> None:
        """Behind a call: another one, the closer, or content again."""
        self._held += char
        self._mark += char
        closer = self._form.closer
        if closer and closer.startswith(self._mark):
            if self._mark == closer:
                self._held, self._mark, self._state = "", "", self._text
            return
        behind, self._mark, self._held = self._mark, "", ""
        if behind == "{":
            self._open(behind)
        elif behind not in (*_BLANKS, *self._form.between):
            self._state = self._text
            for each in behind:
                self._text(each)


def _joined(deltas: list[Delta]) -> list[Delta]:
    """Neighbours of one kind as one."""
    joined: list[list[Delta]] = []
    for delta in deltas:
        last = joined[-1][-1] if joined else None
        same = isinstance(delta, Content) and isinstance(last, Content)
        more = isinstance(delta, Arguments) and isinstance(last, Arguments) and delta.index == last.index
        if same or more:
            joined[-1].append(delta)
        else:
            joined.append([delta])
    return [_one(run) for run in joined]


def _one(run: list[Delta]) -> Delta:
    first = run[0]
    if isinstance(first, Arguments):
        return Arguments(first.index, "".join(d.text for d in run if isinstance(d, Arguments)))
    return Content("".join(d.text for d in run if isinstance(d, Content))) if isinstance(first, Content) else first
