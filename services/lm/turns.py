"""How a chat template writes an assistant's turn: what stands between the prompt and the answer, and what ends it."""

import re
from dataclasses import dataclass

from services.lm.errors import TemplateRefused
from services.lm.template import ANSWERED, ASKED, ChatTemplate


@dataclass(frozen=True, slots=True)
class TurnFormat:
    """`lead` are blanks that the template writes before the answer; `end` is the control token that ends it.

    Blanks that a template writes before the end (Llama 2) are not learnt: they would come back as the answer's own. Without an
    `end` an answer ends with the tokenizer's EOS.
    """

    lead: str
    end: str


PLAIN = TurnFormat("", "")


def turn_format(template: ChatTemplate) -> TurnFormat:
    """How the template writes an assistant's answer, found by rendering one.

    A thought that a template opens before the answer (Qwen 3, DeepSeek R1) is no part of it: the answer is what was written.

    Raises:
        TemplateRefused: it takes no user's turn with an answer, or leaves the answer out.
    """
    asked = [{"role": "user", "content": ASKED}]
    before = template.render(asked).text
    whole = _answered(template, [*asked, {"role": "assistant", "content": ANSWERED}])
    lead, found, rest = (whole[len(before) :] if whole.startswith(before) else whole).rpartition(ANSWERED)
    if not found:
        raise TemplateRefused("the chat template leaves an assistant's answer out: it is of no use for a conversation")
    words = sorted(template.vocabulary.special, key=lambda word: (-len(word), word))
    end = re.match(rf"\s*({'|'.join(map(re.escape, words))})", rest) if words else None
    blank = whole.startswith(before) and not lead.strip()
    return TurnFormat(lead if blank else "", end[1] if end else "")


def called(before: str, whole: str, end: str) -> str:
    """What a template wrote for an assistant's turn of calls, its end included: `whole` behind `before`.

    Raises:
        TemplateRefused: `whole` does not begin with what the model is shown before it answers.
    """
    if not whole.startswith(before):
        raise TemplateRefused("the chat template writes earlier turns otherwise where a call of a tool follows")
    written = whole[len(before) :].rstrip()
    head, found, _ = written.rpartition(end) if end else (written, "", "")
    return (head if found or not end else written) + end


def _answered(template: ChatTemplate, turns: list[dict[str, str]]) -> str:
    """The text of a conversation; with a user's turn more where a template wants the last word to be a user's."""
    try:
        return template.render(turns, answering=False).text
    except TemplateRefused:
        return template.render([*turns, turns[0]], answering=False).text
