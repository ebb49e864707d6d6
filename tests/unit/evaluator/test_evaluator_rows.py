"""Rows of a split that no model can be asked are left out with their reason; none of them ends the evaluation."""

import json
from pathlib import Path

from services.evaluator.compute.rows import as_shown
from services.evaluator.domain.predictions import Example
from services.lm.tokens import open_tokenizer
from tests.lm_bases import make_base


def test_a_text_of_which_the_tokenizer_leaves_nothing_is_no_completion(tmp_path: Path) -> None:
    """As SentencePiece's nmt_nfkc does with a zero-width space, which is not blank: its loss would be NaN."""
    file = make_base("smollm2", tmp_path) / "tokenizer.json"
    dropping = {"type": "Replace", "pattern": {"String": "\u200b"}, "content": ""}
    file.write_text(json.dumps({**json.loads(file.read_text()), "normalizer": dropping}))
    texts = [Example("1", (), "\u200b"), Example("2", (), "a\u200b")]
    assert as_shown(texts, open_tokenizer(tmp_path)) == (texts, {0: "no_completion"})
