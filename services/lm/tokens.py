"""Texts and conversations as token ids, the same for training, evaluation and serving, and the tokens that end an answer.

A rendered conversation is encoded whole and without the tokenizer's own BOS, as transformers' apply_chat_template(tokenize=True)
does: the template writes what it wants. A plain text is encoded with what the tokenizer puts before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import encode_marked_chat

from services.lm.control_tokens import ControlVocabulary, read_control_vocabulary, read_json
from services.lm.errors import BaseInvalid, BaseNotFound, ControlTokens, TemplateRefused
from services.lm.template import ANSWERED, ASKED, NO_VARIABLES, ChatTemplate, Rendered, read_template
from services.lm.tool_format import in_words
from services.lm.turns import PLAIN, TurnFormat, called, turn_format

CONTEXT = 6
"""Tokens of a prompt that an answer's text is read behind; a token's text depends on those before it."""
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is shown before it answers."""

    rendered: Rendered
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """A base's tokenizer with its chat template. `before` is what it puts before a plain text: BOS, or nothing."""

    backend: Any
    template: ChatTemplate | None
    vocabulary: ControlVocabulary
    turn: TurnFormat
    lead: str
    """Blanks at the head of an answer's tokens that nobody wrote: the template's, or the tokenizer's."""
    before: tuple[int, ...]
    eos: int
    ends: frozenset[int]
    """Ids that end an answer: the tokenizer's EOS, those of the generation config, and the end of an assistant's turn."""

    def encode(self, text: Rendered) -> list[int]:
        """Token ids of a rendered conversation or a plain text.

        Raises:
            ControlTokens: a marked token cannot be kept as text.
        """
        before = list(self.before) if text.plain else []
        if not text.marked:
            return before + list(self.backend.encode(text.text, add_special_tokens=False))
        try:
            return before + encode_marked_chat(self.backend, text.text)
        except ValueError as error:
            raise ControlTokens(f"{error}; it would end or open a turn") from error

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of token ids as it stands: no space is tidied away."""
        return self.backend.decode(list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)

    def prompt(self, messages: Messages, tools: Messages = (), variables: Mapping[str, Any] = NO_VARIABLES) -> Prompt:
        """`messages` up to where the assistant begins to speak. Without a template one user's turn is a plain text.

        `tools` are OpenAI's; `variables` are further ones of the template.

        Raises:
            TemplateRefused, ControlTokens: as ChatTemplate.render.
        """
        if self.template is not None:
            rendered = self.template.render_chat(messages, tools, variables)
            return Prompt(rendered, tuple(self.encode(rendered)))
        if [m["role"] for m in messages] != ["user"] or tools:
            raise TemplateRefused(
                "the base has no chat template, so it takes one prompt alone, no system prompt and no turns; "
                "put a chat_template.jinja into the base",
                "no_chat_template",
            )
        rendered = Rendered(*self.vocabulary.mark_text(messages[0]["content"]), plain=True)
        return Prompt(rendered, tuple(self.encode(rendered)))

    def answer(self, prompt: Prompt, content: str) -> list[int]:
        """Ids that follow `prompt` where the assistant says `content`: its text as it stands and the end of its turn.

        Raises:
            ControlTokens: as `encode`.
        """
        (message,), marked = self.vocabulary.mark([{"role": "assistant", "content": content}])
        own = Rendered(self.turn.lead + message["content"] + self.turn.end, marked)
        own_ids, melts = self._behind(prompt, own)
        # Letters that would melt into the prompt's last token stand alone, as when they are generated; so do blanks that the
        # prompt's last token would take (Phi's).
        if melts or (content[:1].isspace() and content not in self.answer_text(prompt.ids, own_ids)):
            own_ids = self._continued(replace(own, text=self.lead + message["content"] + self.turn.end))
        return own_ids if self.turn.end else [*own_ids, self.eos]

    def answer_turn(
        self, prompt: Prompt, messages: Messages, tools: Messages = (), variables: Mapping[str, Any] = NO_VARIABLES
    ) -> list[int]:
        """Ids that follow `prompt` where the assistant takes the last turn of `messages`, calls of tools among it.

        A call is what the template writes for it, so that it is learnt as it is shown later and read when it is generated.

        Raises:
            TemplateRefused: the template writes the turns before otherwise when a call follows.
            ControlTokens: as `encode`.
        """
        turn = messages[-1]
        if self.template is None or not turn.get("tool_calls"):
            return self.answer(prompt, turn["content"])
        if self.template.tool_format is None:
            return self.answer(prompt, in_words(turn))
        whole = self.template.render_chat(messages, tools, variables, answering=False)
        text = called(prompt.rendered.text, whole.text, self.turn.end)
        own_ids, melts = self._behind(prompt, Rendered(text, whole.marked))
        if melts:
            own_ids = self._continued(Rendered(text, whole.marked))
        return own_ids if self.turn.end else [*own_ids, self.eos]

    def _behind(self, prompt: Prompt, own: Rendered) -> tuple[list[int], bool]:
        """Ids of a text behind a prompt, and whether it would melt into the prompt's last token."""
        before = prompt.rendered
        ids = self.encode(Rendered(before.text + own.text, before.marked or own.marked, before.plain))
        known = list(prompt.ids)
        return ids[len(known) :], ids[: len(known)] != known

    def answer_text(self, prompt: Sequence[int], ids: Sequence[int]) -> str:
        """The text of an answer to a prompt: what its ids add to it, without `lead`."""
        shown = list(prompt)[-CONTEXT:]
        text = self.decode([*shown, *ids])[len(self.decode(shown)) :]
        return text.removeprefix(self.lead)

    def plain_text(self, text: str) -> list[int]:
        """Ids of a text that is learnt whole: BOS where the tokenizer has one, the text, EOS.

        Raises:
            ControlTokens: as `encode`.
        """
        return [*self.encode(Rendered(*self.vocabulary.mark_text(text), plain=True)), self.eos]

    def _continued(self, text: Rendered) -> list[int]:
        """Ids of a text behind others: after a line break, so that no tokenizer takes it for the beginning of a text."""
        line = self.encode(Rendered("\n"))
        ids = self.encode(replace(text, text="\n" + text.text))
        return ids[len(line) :] if ids[: len(line)] == line else self.encode(text)


def open_tokenizer(directory: Path) -> TextTokenizer:
    """The tokenizer of a base's directory.

    Raises:
        BaseNotFound: there is no directory.
        BaseInvalid: there is no tokenizer in it, it has no end token, or its chat template is broken.
    """
    if not directory.is_dir():
        raise BaseNotFound(f"the base directory {directory.name!r} does not exist")
    backend = _load(directory)
    if backend.eos_token_id is None:
        raise BaseInvalid("the base's tokenizer names no eos_token; add it to tokenizer_config.json")
    try:
        template = read_template(directory)
        turn = turn_format(template) if template else PLAIN
    except TemplateRefused as error:
        raise BaseInvalid(str(error)) from error
    end: list[int] = backend.encode(turn.end, add_special_tokens=False)[-1:] if turn.end else []
    opened = TextTokenizer(
        lead="",
        backend=backend,
        template=template,
        vocabulary=template.vocabulary if template else read_control_vocabulary(directory, None),
        turn=turn,
        before=_before(backend),
        eos=int(backend.eos_token_id),
        ends=frozenset({int(backend.eos_token_id), *end, *configured_ends(directory)}),
    )
    return replace(opened, lead=_lead(opened)) if template else opened


def configured_ends(directory: Path) -> tuple[int, ...]:
    """`eos_token_id` of generation_config.json, one or a list; where it names none, that of config.json."""
    config = read_json(directory / "config.json")
    places = (read_json(directory / "generation_config.json"), config, config.get("text_config") or {})
    named: Any = next((place["eos_token_id"] for place in places if place.get("eos_token_id") is not None), ())
    return tuple(int(token) for token in (named if isinstance(named, list | tuple) else [named]))


def _load(directory: Path) -> Any:
    from transformers import AutoTokenizer  # loads torch where it is installed

    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BaseInvalid(f"the base has no tokenizer that transformers reads: {error}"[:500]) from error


def _lead(text: TextTokenizer) -> str:
    """What is read before the first word of an answer."""
    prompt = text.prompt([{"role": "user", "content": ASKED}])
    lead = text.answer_text(prompt.ids, text.answer(prompt, ANSWERED)).partition(ANSWERED)[0]
    return "" if lead.strip() else lead


def _before(backend: Any) -> tuple[int, ...]:
    """Ids that the tokenizer puts before a text."""
    bare = backend.encode("a", add_special_tokens=False)
    full: list[int] = backend.encode("a", add_special_tokens=True)
    at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
    return tuple(full[:at])
