import json
import re
from html.parser import HTMLParser

from contracts.project import Prep
from services.prep.domain import languages, pipeline
from services.prep.domain.profile import profile, spread, words
from services.prep.domain.report import page
from services.prep.domain.rows import Accepted

HOSTILE = "<script>alert('1')</script>\"&"


def dataset(n: int = 40) -> pipeline.Dataset:
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
    twin = Accepted("twin", 1, "prompt_completion", records[0].record, "{}", None)
    return pipeline.freeze([*records, twin], Prep(held_out=0.3, validation=0.2))


def test_a_profile_counts_what_is_there() -> None:
    found = dataset()
    made = profile(found, words, "white-space words", 1000)
    assert made["records"] == 41
    assert made["counts"] == found.counts()
    assert sum(made["tags"]["tool"].values()) == made["rows"] == len(found.rows)
    assert made["drops"]["duplicate"] == {"n": 1, "examples": [{"record_id": "twin", "because_of": "r00"}]}
    assert made["tokens"]["completion"]["p50"] == 2
    assert made["characters"]["completion"]["greatest"] == len("answer 10")
    assert json.loads(json.dumps(made)) == made


def test_a_large_dataset_is_sampled_evenly() -> None:
    made = profile(dataset(), words, "white-space words", 10)
    assert made["tokens"]["sampled"] <= 10
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


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    html = page("shell-copilot", profile(dataset(), words, "white-space words", 1000))
    reader = Reader()
    reader.feed(html)
    assert "svg" in reader.names
    assert "script" not in reader.names
    assert not reader.loads
    assert "url(" not in html
    assert "@import" not in html
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html


def test_the_page_shows_counts_drops_and_examples() -> None:
    found = dataset()
    text = re.sub(r"<[^>]+>", " ", page("shell-copilot", profile(found, words, "white-space words", 1000)))
    assert found.version in text
    assert "same content as another record" in text
    assert "answer" in text


def test_the_page_of_an_empty_dataset_is_a_page() -> None:
    empty = pipeline.freeze([], Prep())
    assert "No record was left out" in page("p", profile(empty, words, "white-space words", 10))


def test_languages_are_detected() -> None:
    assert languages.detect_language("How do you list the files of a folder?") == "en"
    assert languages.detect_language("Wie zeige ich die Dateien mit dem Namen und der Größe?") == "de"
    assert languages.detect_language("列出文件夹中的所有文件") == "zh"
    assert languages.detect_language("ls -la") == languages.UNKNOWN
