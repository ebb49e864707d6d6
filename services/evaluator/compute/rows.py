"""Rows of a split's Parquet file as examples, and an example as token ids. Knows no metric and no model's weights.

Loss is taken on the completion and the end-of-turn token, none on the prompt, as in TRL's SFTTrainer with completion_only_loss
(https://huggingface.co/docs/trl/sft_trainer). Prompt and completion are tokenised apart, as they are when the model answers.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.chat import conversation
from contracts.project import Prompt
from contracts.records import PlainText, Preference, UnpairedPreference, parse_record
from services.evaluator.domain.failures import ModelInvalid
from services.evaluator.domain.predictions import Example


@dataclass(frozen=True, slots=True)
class Encoded:
    """`prompt` is what the model is shown before it answers (empty for plain text); loss is taken on `ids[start:]`."""

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    start: int


def read(path: Path, prompt: Prompt) -> tuple[list[Example], Counter[str]]:
    """Examples of a split in its order, and how many rows were left out as `preference` or `no_completion`.

    Reads the columns `record_id` and `record` (canonical JSON).
    """
    import pyarrow.parquet as pq

    rows: list[dict[str, str]] = pq.read_table(path, columns=["record_id", "record"]).to_pylist()
    examples: list[Example] = []
    skipped: Counter[str] = Counter()
    for row in rows:
        record = parse_record(json.loads(row["record"]))[1]
        if isinstance(record, Preference) or (isinstance(record, UnpairedPreference) and not record.label):
            skipped["preference"] += 1
            continue
        messages, completion = ([], record.text) if isinstance(record, PlainText) else conversation(prompt, record)
        if completion.strip():
            examples.append(Example(row["record_id"], tuple(messages), completion))
        else:
            skipped["no_completion"] += 1
    return examples, skipped


def encode(example: Example, tokenizer: Any, context: int, max_tokens: int) -> Encoded:
    """Token ids of an example for a model that takes `context` tokens.

    A prompt that leaves no room for `max_tokens` loses its beginning; a completion too long for the context, its end.
    """
    if not example.messages:
        ids = [*_ids(tokenizer, example.reference, special=True), tokenizer.eos_token_id][:context]
        return Encoded((), tuple(ids), 1)
    messages = [dict(m) for m in example.messages]
    before = _render(tokenizer, messages, generation=True)
    whole = _render(tokenizer, [*messages, {"role": "assistant", "content": example.reference}], generation=False)
    # Templates that rewrite an earlier turn or open a thought cannot be cut; there the bare answer follows the prompt.
    tail = whole[len(before) :].rstrip() if whole.startswith(before) else example.reference
    learnt = _ids(tokenizer, tail)
    if learnt[-1:] and learnt[-1] not in tokenizer.all_special_ids:
        learnt.append(tokenizer.eos_token_id)
    shown = _ids(tokenizer, before)[-max(1, context - max_tokens) :]
    return Encoded(tuple(shown), tuple((shown + learnt)[:context]), len(shown))


def _render(tokenizer: Any, messages: list[dict[str, str]], *, generation: bool) -> str:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise ModelInvalid("the model's tokenizer has no chat template; put a chat_template.jinja into the base")
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
    except TemplateError as error:
        raise ModelInvalid(f"the model's chat template refuses these turns: {error}"[:500]) from error


def _ids(tokenizer: Any, text: str, *, special: bool = False) -> list[int]:
    return list(tokenizer(text, add_special_tokens=special)["input_ids"])
