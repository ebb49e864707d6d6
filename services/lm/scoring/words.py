"""Texts cut for comparing: into words, and where a script writes no spaces between words into single characters.

Those scripts are Han, Kana and their punctuation (the ranges of sacrebleu's tokenizer `zh` with Kana added), Thai, Lao, Tibetan,
Burmese and Khmer. Code points are counted, as sacrebleu's tokenizer `char` does.
"""

import re
import unicodedata

_RANGES = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Tibetan, Burmese, Khmer
    "\u2e80-\u303f\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff\u3200-\u4dbf\u4e00-\u9fff"  # Han and its signs, Kana
    "\uf900-\ufaff\ufe10-\ufe1f\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff"  # compatibility and full-width forms
)
_UNSPACED = re.compile(f"[{_RANGES}]")


def spaced(text: str) -> str:
    """`text` with a space on both sides of every character of a script that writes none."""
    return _UNSPACED.sub(r" \g<0> ", text)


def words(text: str) -> list[str]:
    """Lower-cased runs of letters, their marks and digits; single characters where words are not spaced."""
    kept = (sign if unicodedata.category(sign)[0] in "LMN" else " " for sign in spaced(text.lower()))
    return "".join(kept).split()
