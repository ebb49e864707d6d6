"""Records as rows to learn from: token ids, and which of them are learnt: assistants' turns with their ends, nothing else.

A turn is learnt behind exactly the tokens that the model is shown when it has to answer there (TextTokenizer.prompt). As long
as those begin with what was learnt before, a conversation is one row; where a template writes an earlier turn otherwise than
when it was new (Qwen 3 drops thoughts, Llama 3 trims), the turn begins a row of its own.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from contracts.chat import all_turns, as_sent, is_learnt, offered_tools, said, template_variables, with_system
from contracts.project import Learn, Prompt
from contracts.records import Message, PlainText, Preference, Record, UnpairedPreference, kind
from services.lm.errors import TemplateRefused, TextRefused
from services.lm.prompt_template import record_prompt
from services.lm.tokens import TextTokenizer

NO_TAGS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids; loss is taken on the spans `learnt`, each (start, end) with 1 <= start < end, in order."""

    ids: tuple[int, ...]
    learnt: tuple[tuple[int, int], ...]

    @property
    def targets(self) -> int:
        """Number of tokens to learn."""
        return sum(end - start for start, end in self.learnt)

    @property
    def start(self) -> int:
        """Where learning begins."""
        return self.learnt[0][0]


@dataclass(slots=True)
class Encoded:
    """Rows, the records that were left out by reason, and how many rows of the others were `cut`, or wholly behind the end."""

    rows: list[Row] = field(default_factory=list[Row])
    left_out: Counter[str] = field(default_factory=Counter[str])
    cut: int = 0


def encode_records(
    records: Iterable[Record],
    tokenizer: TextTokenizer,
    prompt: Prompt,
    learn: Learn,
    max_length: int,
    tags: Iterable[Mapping[str, str]] | None = None,
) -> Encoded:
    """Supervised rows of the records. None of them fails: what cannot be learnt is left out and counted.

    The prompt's variables are the record's `tags` of the same names, else their defaults. Reasons: `preference`, `undesirable`
    (its label is false), `stepwise`, `prompt_only`, `no_completion`, `answer_cut_off` (it begins behind `max_length`), and those
    of errors.TextRefused.
    """
    encoded = Encoded()
    for record, values in zip(records, repeat(NO_TAGS) if tags is None else tags, strict=False):
        try:
            reason = unfit(record)
            shown = prompt if reason else record_prompt(prompt, record, values)
            rows = [] if reason else record_rows(record, tokenizer, shown, learn, max_length)
        except TextRefused as error:
            rows, reason = [], error.reason
        kept = [clipped for row in rows if (clipped := clip(row, max_length)).learnt]
        encoded.cut += sum(len(row.ids) > max_length for row in rows) if kept else 0
        encoded.rows += kept
        if not kept:
            encoded.left_out[reason or ("answer_cut_off" if rows else "no_completion")] += 1
    return encoded


def unfit(record: Record) -> str | None:
    """Why a record is nothing for supervised fine-tuning, by its format."""
    if isinstance(record, Preference):
        return "preference"
    if (own := kind(record)) in ("stepwise", "prompt_only"):
        return own
    return "undesirable" if isinstance(record, UnpairedPreference) and not record.label else None


def record_rows(record: Record, tokenizer: TextTokenizer, prompt: Prompt, learn: Learn, max_length: int) -> list[Row]:
    """The rows of one record, whole, behind a prompt that was rendered.

    Raises:
        TextRefused: the template or the tokenizer refuses it.
    """
    if isinstance(record, PlainText):
        ids = tokenizer.plain_text(record.text)
        return [Row(tuple(ids), ((1, len(ids)),))] if len(ids) > 1 and record.text.strip() else []
    messages, first = whole_conversation(prompt, record)
    at = [i for i in range(first, len(messages)) if is_learnt(messages[i]) and said(messages[i]).strip()]
    try:
        tools = offered_tools(prompt, record)
    except ValueError as error:
        raise TemplateRefused(f"the record's tools are no JSON: {error}"[:300]) from error
    shown = Shown([as_sent(turn) for turn in messages], tools, template_variables(record))
    return _turn_rows(shown, at if learn == "all" else at[-1:], tokenizer, max_length)


def whole_conversation(prompt: Prompt, record: Record) -> tuple[list[Message], int]:
    """All turns of a record behind the project's system prompt, and the first that may be learnt."""
    messages, first = all_turns(record)
    shown = with_system(prompt, messages)
    return list(shown), first + len(shown) - len(messages)


@dataclass(frozen=True, slots=True)
class Shown:
    """A conversation as templates take it: turns, tools, further variables."""

    turns: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]]
    variables: Mapping[str, Any]


def _turn_rows(chat: Shown, at: Sequence[int], tokenizer: TextTokenizer, max_length: int) -> list[Row]:
    """Rows of the assistants' turns at the indices `at`; those behind `max_length` tokens are not looked at."""
    rows: list[Row] = []
    for index in at:
        shown = tokenizer.prompt(chat.turns[:index], chat.tools, chat.variables)
        answer = tuple(tokenizer.answer_turn(shown, chat.turns[: index + 1], chat.tools, chat.variables))
        ids = shown.ids + answer
        goes_on = rows and shown.ids[: len(rows[-1].ids)] == rows[-1].ids
        earlier = rows.pop().learnt if goes_on else ()
        rows.append(Row(ids, (*earlier, (len(shown.ids), len(ids)))))
        if len(shown.ids) >= max_length:
            break
    return rows


def clip(row: Row, max_length: int) -> Row:
    """The row's first tokens, and what of its spans is left."""
    spans = ((start, min(end, max_length)) for start, end in row.learnt if start < max_length)
    return Row(row.ids[:max_length], tuple(spans))
