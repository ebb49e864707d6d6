"""Rows of a split's Parquet file as examples, and an example as token ids.

Loss is taken on the completion and the end of its turn, none on the prompt, as in TRL's SFTTrainer with completion_only_loss
(https://huggingface.co/docs/trl/sft_trainer).
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from contracts.chat import as_sent, completion_turn, conversation, template_variables, unfit
from contracts.project import Prompt
from contracts.records import PlainText, Record, parse_record
from services.evaluator.domain.predictions import Example
from services.lm.errors import TextRefused
from services.lm.prompt_template import record_prompt
from services.lm.tokens import TextTokenizer


@dataclass(frozen=True, slots=True)
class Encoded:
    """`prompt` is what the model is shown before it answers (empty for plain text); loss is taken on `ids[start:]`."""

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    start: int


class Split(NamedTuple):
    """Examples of a split in its order, rows left out by reason, and the indices of examples without a prompt, with why."""

    examples: list[Example]
    skipped: Counter[str]
    refused: dict[int, str]


def read(path: Path, prompt: Prompt) -> Split:
    """The examples of a split under a prompt, whose variables are a row's tags of the same names, else their defaults.

    Rows are left out as `preference`, `stepwise`, `no_completion`, whatever the prompt. An example is refused with a reason of
    errors.TextRefused: where its prompt lacks a variable, say.

    Reads the columns `record_id`, `record` (canonical JSON) and, where present, `tags` (JSON).
    """
    import pyarrow.parquet as pq

    names = [name for name in ("record_id", "record", "tags") if name in pq.read_schema(path).names]
    rows: list[dict[str, str]] = pq.read_table(path, columns=names).to_pylist()
    split = Split([], Counter(), {})
    for row in rows:
        record = parse_record(json.loads(row["record"]))[1]
        if (reason := unfit(record)) is not None:
            split.skipped[reason] += 1
            continue
        tags: dict[str, str] = json.loads(row.get("tags", "{}"))
        try:
            shown = record_prompt(prompt, record, tags)
        except TextRefused as error:
            split.refused[len(split.examples)] = error.reason
            shown = Prompt()
        split.examples.append(replace(_example(row["record_id"], record, shown), tags=tags))
    return split


def _example(record_id: str, record: Record, prompt: Prompt) -> Example:
    if isinstance(record, PlainText):
        return Example(record_id, (), record.text)
    messages, completion = conversation(prompt, record)
    variables, turn = template_variables(record), completion_turn(record)
    return Example(
        record_id,
        tuple(messages),
        completion,
        tools=record.tools or (json.dumps([tool.body() for tool in prompt.tools]) if prompt.tools else None),
        variables=json.dumps(variables, sort_keys=True) if variables else None,
        calls=json.dumps(as_sent(turn)) if turn and turn.tool_calls else None,
    )


def as_shown(examples: Sequence[Example], tokenizer: TextTokenizer) -> tuple[list[Example], dict[int, str]]:
    """The examples as a base has them, calls of tools as its template writes them, and why some cannot be put before it.

    The latter by their indices: a reason of services/lm/errors.py, or `no_completion`: a tokenizer may drop every character of a
    text (SentencePiece's nmt_nfkc a zero-width space), and nothing is left to predict.
    """
    shown: list[Example] = []
    refused: dict[int, str] = {}
    for index, example in enumerate(examples):
        shown.append(example)
        try:
            prompt, answer = _ids(example, tokenizer)
            if example.calls:
                shown[index] = replace(example, reference=tokenizer.answer_text(prompt, answer).strip())
            if not prompt and len(answer) < 2:
                refused[index] = "no_completion"
        except TextRefused as error:
            refused[index] = error.reason
    return shown, refused


def encode(example: Example, tokenizer: TextTokenizer, context: int, max_tokens: int) -> Encoded:
    """Token ids of an example for a model that takes `context` tokens.

    A prompt that leaves no room for `max_tokens` loses its beginning; a completion too long for the context, its end.

    Raises:
        TextRefused: the model's template or tokenizer refuses the example (`as_shown`).
    """
    prompt, answer = _ids(example, tokenizer)
    if not prompt:
        return Encoded((), answer[:context], 1)
    shown = prompt[-max(1, context - max_tokens) :]
    return Encoded(shown, (*shown, *answer)[:context], len(shown))


def _ids(example: Example, tokenizer: TextTokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What is shown, nothing for plain text, and what should follow."""
    if not example.messages:
        return (), tuple(tokenizer.plain_text(example.reference))
    tools, variables = json.loads(example.tools or "[]"), json.loads(example.variables or "{}")
    prompt = tokenizer.prompt(example.messages, tools, variables)
    if example.calls is None:
        return prompt.ids, tuple(tokenizer.answer(prompt, example.reference))
    whole = [*example.messages, json.loads(example.calls)]
    return prompt.ids, tuple(tokenizer.answer_turn(prompt, whole, tools, variables))
