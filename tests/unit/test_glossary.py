"""The glossary is short, and its words are the ones in use."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "glossary.md"
TERMS = re.findall(r"^\| ([^|]+?) \| (.+?) \|$", PAGE.read_text(), flags=re.MULTILINE)[1:]
OTHERS = [path for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")] if path != PAGE]
CODE = [path for folder in ("contracts", "services", "compose") for path in (ROOT / folder).rglob("*.py")]
TEXT = "\n".join(path.read_text() for path in [*OTHERS, *CODE]).lower()


def test_thirty_terms_at_most_each_once() -> None:
    names = [name for name, _ in TERMS]
    assert 20 <= len(names) <= 30
    assert len({name.lower() for name in names}) == len(names)


@pytest.mark.parametrize("term", [name for name, _ in TERMS])
def test_term_is_used(term: str) -> None:
    spelt = re.escape(term.lower()).replace("\\ ", r"[\s_]").replace("\\-", "[-_]")
    assert len(re.findall(rf"\b{spelt}s?\b", TEXT)) >= 3


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_glossary_is_linked(page: str) -> None:
    assert "glossary.md)" in (ROOT / page).read_text()
