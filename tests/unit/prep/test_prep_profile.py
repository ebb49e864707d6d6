import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from contracts.project import Prep
from services.prep.domain import languages
from services.prep.domain.profile import profile, spread, words
from services.prep.domain.report import page
from services.prep.domain.rows import SPLITS, Accepted
from tests.unit.prep.frames import written

HOSTILE = "<script>alert('1')</script>\"&"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def made(folder: Path) -> dict[str, Any]:
    return profiled(40, folder / "40", 1000)


def profiled(n: int, folder: Path, sample: int) -> dict[str, Any]:
    """The profile of a dataset of n records and one that repeats the first."""
    folder.mkdir()
    records = [
        Accepted(
            f"r{i:02}",
            1,
            "prompt_completion",
            json.dumps({"prompt": f"question number {i} about {HOSTILE} item{i}", "completion": f"answer {i}"}),
            json.dumps({"tool": f"t{i % 3}", HOSTILE: HOSTILE}),
            None,
        )
        for i in range(n)
    ]
    twin = [Accepted("twin", 1, "prompt_completion", records[0].record, "{}", None)] if records else []
    frozen, files, counts = written([*records, *twin], Prep(held_out=0.3, validation=0.2), folder)
    drops = frozen.drops_by_reason()
    return profile(files, frozen.version, counts, drops, words, "white-space words", sample)


def test_a_profile_counts_what_is_there(made: dict[str, Any]) -> None:
    assert made["records"] == 41
    assert sum(made["counts"].values()) + sum(drop["n"] for drop in made["drops"].values()) == 41
    assert sum(made["tags"]["tool"].values()) == made["rows"]
    assert made["drops"]["duplicate"] == {"n": 1, "examples": [{"record_id": "twin", "because_of": "r00"}]}
    assert made["tokens"]["completion"]["p50"] == 2
    assert made["characters"]["completion"]["greatest"] == len("answer 10")
    assert json.loads(json.dumps(made)) == made


def test_a_large_dataset_is_sampled_evenly(folder: Path) -> None:
    made = profiled(41, folder / "sampled", 10)
    assert made["tokens"]["sampled"] <= 10 + len(SPLITS)
    assert made["tokens"]["completion"]["n"] == made["tokens"]["sampled"]


def test_a_spread_has_every_value_in_its_histogram() -> None:
    made = spread([*range(100), 100_000])
    assert sum(made["histogram"]["counts"]) == made["n"] == 101
    assert (made["least"], made["p50"], made["greatest"]) == (0, 50, 100_000)
    assert spread([])["n"] == 0


class Reader(HTMLParser):
    """Notes the elements, their open ones and what they would load."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "srcset", "data") or name.startswith("on")]


def test_the_page_needs_nothing_else_and_runs_nothing(made: dict[str, Any]) -> None:
    html = page("shell-copilot", made)
    reader = Reader()
    reader.feed(html)
    assert "svg" in reader.names
    assert "script" not in reader.names
    assert not reader.loads
    assert "url(" not in html
    assert "@import" not in html
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html


def test_the_page_shows_counts_drops_and_examples(made: dict[str, Any]) -> None:
    text = re.sub(r"<[^>]+>", " ", page("shell-copilot", made))
    assert made["version"] in text
    assert "same content as another record" in text
    assert "answer" in text


def test_the_page_of_an_empty_dataset_is_a_page(folder: Path) -> None:
    assert "No record was left out" in page("p", profiled(0, folder / "empty", 10))


def test_languages_are_detected() -> None:
    assert languages.detect_language("How do you list the files of a folder?") == "en"
    assert languages.detect_language("Wie zeige ich die Dateien mit dem Namen und der Größe?") == "de"
    assert languages.detect_language("列出文件夹中的所有文件") == "zh"
    assert languages.detect_language("ls -la") == languages.UNKNOWN
