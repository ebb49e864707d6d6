"""Rows of a dataset's Parquet file as token ids with the place where learning starts.

Conventions as in TRL's SFTTrainer with completion_only_loss (https://huggingface.co/docs/trl/sft_trainer): loss on the completion
and the end-of-turn token, none on the prompt. Prompt and completion are tokenised apart, as they are when the model answers.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from contracts.chat import conversation
from contracts.project import Prompt
from contracts.records import PlainText, Preference, Record, UnpairedPreference, parse_record
from services.trainer.domain.failures import BaseInvalid, BaseNotFound
from services.trainer.domain.packing import Row


def read(path: Path) -> list[Record]:
    """The records of a split in the order of their digests; columns `record` (JSON) and, where present, `digest`."""
    import pyarrow.parquet as pq

    names = [name for name in ("record", "digest") if name in pq.read_schema(path).names]
    table = pq.read_table(path, columns=names)
    if "digest" in names:
        table = table.sort_by("digest")
    return [parse_record(json.loads(text))[1] for text in table.column("record").to_pylist()]


def load_tokenizer(base: Path) -> Any:
    """The base's tokenizer.

    Raises:
        BaseNotFound: where there is no directory.
        BaseInvalid: where there is none, or it has no end token.
    """
    from transformers import AutoTokenizer

    if not base.is_dir():
        raise BaseNotFound(f"the base directory {base.name!r} does not exist")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BaseInvalid(f"the base has no tokenizer that transformers reads: {error}"[:500]) from error
    if tokenizer.eos_token_id is None:
        raise BaseInvalid("the base's tokenizer names no eos_token; add it to tokenizer_config.json")
    return tokenizer


def encode(records: list[Record], tokenizer: Any, prompt: Prompt, max_length: int) -> tuple[list[Row], Counter[str]]:
    """Rows to learn from and how many were `truncated`, or left out as `preference` or `no_completion`."""
    rows: list[Row] = []
    notes: Counter[str] = Counter()
    for record in records:
        if isinstance(record, Preference) or (isinstance(record, UnpairedPreference) and not record.label):
            notes["preference"] += 1
            continue
        ids, start = _encode(record, tokenizer, prompt)
        notes["truncated"] += len(ids) > max_length
        if start < min(len(ids), max_length):
            rows.append(Row(tuple(ids[:max_length]), start))
        else:
            notes["no_completion"] += 1
    return rows, +notes


def _encode(record: Record, tokenizer: Any, prompt: Prompt) -> tuple[list[int], int]:
    if isinstance(record, PlainText):
        ids = [*_ids(tokenizer, record.text, special=True), tokenizer.eos_token_id]
        return ids, 1
    messages, completion = conversation(prompt, record)
    if not completion.strip():
        return [], 0
    before = _render(tokenizer, messages, generation=True)
    whole = _render(tokenizer, [*messages, {"role": "assistant", "content": completion}], generation=False)
    # Templates that rewrite an earlier turn or open a thought cannot be cut; there the bare answer follows the prompt.
    tail = whole[len(before) :].rstrip() if whole.startswith(before) else completion
    first, learnt = _ids(tokenizer, before), _ids(tokenizer, tail)
    if learnt[-1:] and learnt[-1] not in tokenizer.all_special_ids:
        learnt.append(tokenizer.eos_token_id)
    return first + learnt, len(first)


def _render(tokenizer: Any, messages: list[dict[str, str]], *, generation: bool) -> str:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise BaseInvalid("the base's tokenizer has no chat template; put a chat_template.jinja into the base")
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
    except TemplateError as error:
        raise BaseInvalid(f"the base's chat template refuses these turns: {error}"[:500]) from error


def _ids(tokenizer: Any, text: str, *, special: bool = False) -> list[int]:
    return list(tokenizer(text, add_special_tokens=special)["input_ids"])
