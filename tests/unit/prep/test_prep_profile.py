import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models

from services.chassis.privacy.kinds import KINDS
from services.prep.domain.rows import SPLITS
from services.prep.profiling import embedder, leakage, plots, repeats, sources, texts, topics
from services.prep.profiling.figures import spread, words
from services.prep.profiling.page import page
from services.prep.profiling.profile import Profile, placeholders, profile
from services.prep.settings import PrepSettings
from tests.unit.prep.frozen import write

HOSTILE = "<script>alert('1')</script>\"&"


def pair(i: int, prompt: str, **more: Any) -> dict[str, Any]:
    return {"record_id": f"r{i:02}", "record": {"prompt": prompt, "completion": f"answer {i}"}, **more}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """40 rows, every third one of each split, and a twin of r00."""
    rows = [
        pair(i, f"question number {i} about {HOSTILE} item{i}", tags={"tool": f"t{i % 3}", HOSTILE: HOSTILE})
        for i in range(40)
    ]
    twin = {**rows[0], "record_id": "twin", "reason": "duplicate", "because_of": "r00"}
    return write(tmp_path, {split: rows[i::3] for i, split in enumerate(SPLITS)}, [twin])


def embed(given: Sequence[str]) -> tuple[list[int], topics.Vectors]:
    """A vector of whether a text has one of three words: real clusters without a model."""
    vectors = np.array([[f"about {w}" in text for w in ("tea", "war", "sea")] for text in given], np.float32) + 0.01
    return list(range(len(given))), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def made(files: dict[str, Path], sample: int = 1000, **more: Any) -> Profile:
    return profile(files, "a" * 64, words, "white-space words", sample, **more)


def test_a_profile_counts_what_is_there(files: dict[str, Path]) -> None:
    found = made(files)
    assert (found["records"], found["rows"], found["sampled"]) == (41, 40, 40)
    assert found["counts"] == {"train": 14, "validation": 13, "held_out": 13}
    assert found["tags"]["tool"] == {"t0": 14, "t1": 13, "t2": 13}
    assert found["formats"] == {"prompt_completion": 40}
    assert found["prompts"] == {"distinct": 40, "of": 40}
    assert found["drops"]["duplicate"] == {"n": 1, "examples": [{"record_id": "twin", "because_of": "r00"}]}
    assert found["tokens"]["completion"]["p50"] == 2
    assert found["characters"]["completion"]["greatest"] == len("answer 10")
    assert json.loads(json.dumps(found)) == found
    assert made(files) == found


def test_secrets_and_personal_data_are_counted_by_the_rows_that_hold_them(tmp_path: Path) -> None:
    rows = [pair(i, f"ask u{i}@example.com or v{i}@example.com") for i in range(3)] + [
        pair(3, "q sk-proj-abcdEFGH1234567890abcd")
    ]
    found = made(write(tmp_path, {"train": rows, "validation": [], "held_out": []}))
    assert found["pii"] == {"sampled": 4, "found": {"EMAIL_ADDRESS": 3, "API_KEY": 1}}
    html = page("p", found)
    assert "Rows that hold them, of 4 sampled" in html
    without = {name: part for name, part in found.items() if name != "pii"}
    assert "Secrets and personal data" not in page("p", without), "a profile of before has none"


def test_rules_of_quality_are_counted_by_the_rows_that_break_them(tmp_path: Path) -> None:
    prose = "The towns of the river have walls, and that is why people come to see them with their children. " * 6
    said = [prose, f"{prose} Lorem ipsum dolor.", "{" + prose + "}", "{}"]
    rows = [{"record_id": f"r{i}", "record": {"prompt": f"q{i}", "completion": text}} for i, text in enumerate(said)]
    found = made(write(tmp_path, {"train": rows, "validation": [], "held_out": []}))
    broken = found["quality"]["found"]
    assert found["quality"]["sampled"] == 4
    assert {name: broken[name] for name in ("c4_braces", "c4_lorem_ipsum", "gopher_words")} == {
        "c4_braces": 2,
        "c4_lorem_ipsum": 1,
        "gopher_words": 1,
    }
    assert "c4_javascript" not in broken
    html = page("p", found)
    assert "Rows that break them, of 4 sampled" in html
    assert "<td><code>c4_braces</code></td><td>2</td><td>50 %</td><td>a curly brace" in html
    without = {name: part for name, part in found.items() if name != "quality"}
    assert "<h2>Quality</h2>" not in page("p", without), "a profile of before has none"


def test_a_large_dataset_is_sampled_evenly_and_says_so(files: dict[str, Path]) -> None:
    found = made(files, 10)
    assert found["sampled"] == found["tokens"]["sampled"] == found["tokens"]["completion"]["n"] == 10
    assert found["counts"]["train"] == 14
    split_of_sample = [row.split for row in texts.sample(files, SPLITS, 10)]
    assert {split: split_of_sample.count(split) for split in SPLITS} == {"train": 4, "validation": 3, "held_out": 3}
    assert "in 10 sampled rows" in page("p", found)


@pytest.mark.parametrize("most", range(1, 42))
def test_a_part_of_a_dataset_may_have_none_of_the_sample(files: dict[str, Path], most: int) -> None:
    found = texts.sample(files, SPLITS, most)
    assert len(found) == len(range(0, 40, -(-40 // most)))


def test_long_records_are_sampled_the_less(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MOST_BYTES", 1000)
    assert 1 <= len(texts.sample(files, SPLITS, 1000)) < 20


def test_a_tag_with_a_value_for_each_record_is_counted_within_bounds(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "MOST_VALUES", 2)
    found = made(files)
    assert sum(found["tags"]["tool"].values()) == 40
    assert len(found["tags"]["tool"]) == 3
    assert "(others)" in found["tags"]["tool"]


def test_a_tag_that_names_each_row_is_no_plot(tmp_path: Path) -> None:
    rows = [pair(i, f"q {i}", tags={"user": f"u{i}", "tool": "tar"}) for i in range(5)]
    html = page("p", made(write(tmp_path, {"train": rows, "validation": [], "held_out": []})))
    assert "another value with each row" in html
    assert "u3" not in html
    assert "tar" in html


def test_a_spread_has_every_value_in_its_histogram() -> None:
    found = spread([*range(100), 100_000])
    assert sum(found["histogram"]["counts"]) == found["n"] == 101
    assert (found["least"], found["p50"], found["greatest"]) == (0, 50, 100_000)
    assert spread([])["n"] == 0


def test_topics_have_their_words_and_what_lies_apart(tmp_path: Path) -> None:
    themes = {"tea": "cup kettle", "war": "army siege", "sea": "wave harbour"}
    rows = [pair(i, f"tell about {w} and {themes[w]}") for i, w in enumerate(["tea", "war", "sea"] * 18)]
    rows.append(pair(99, "something else"))
    found = made(write(tmp_path, {"train": rows, "validation": [], "held_out": []}), embed=embed)["topics"]
    assert sum(topic["n"] for topic in found["found"]) == found["sampled"] == 55
    theme_words = [set(topic["words"]) for topic in found["found"]]
    for theme in themes.values():
        assert any(set(theme.split()) <= some for some in theme_words), theme_words
    assert found["outliers"][0]["distance"] >= found["outliers"][-1]["distance"]
    assert made(write(tmp_path, {"train": rows[:9], "validation": [], "held_out": []}), embed=embed)["topics"] == {
        "missing": "fewer than 50 rows make no topics"
    }


def test_clusters_are_those_of_the_vectors_largest_first() -> None:
    random = np.random.default_rng(1)
    centres = np.eye(4, dtype=np.float32)
    truth = np.array([0] * 5 + [1] * 20 + [2] * 10 + [3] * 15)
    vectors = centres[truth] + random.normal(0, 0.05, (50, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = topics.clusters(vectors, 4)
    assert np.bincount(found.of).tolist() == [20, 15, 10, 5]
    assert all(len(set(found.of[truth == one])) == 1 for one in range(4))
    assert topics.clusters(np.tile(vectors[:1], (30, 1)), 3).of.tolist() == [0] * 30


@pytest.mark.parametrize(
    ("lengths", "most", "stride"), [([5] * 10, 50, 1), ([5] * 10, 25, 2), ([5] * 10, 4, 10), ([], 9, 1)]
)
def test_texts_are_embedded_within_a_bound(lengths: list[int], most: int, stride: int) -> None:
    assert embedder.within(lengths, most) == stride


def test_vectors_are_in_the_order_of_their_texts() -> None:
    def first_token(ids: Any, mask: Any) -> Any:
        assert mask.sum(axis=1).tolist() == [(row > 0).sum() for row in ids]
        return ids[:, :1].astype(np.float32)

    given = [[9, 1, 1], [8], [7] * 600, [6, 6]]
    assert embedder.vectors(first_token, given)[:, 0].tolist() == [9, 8, 7, 6]


def test_the_packaged_embedder_tells_topics_apart_within_its_bound() -> None:
    opened = embedder.open_embedder(PrepSettings().cache, 100)
    if opened is None:
        pytest.skip("the embedder is not here (scripts/setup --assets)")
    given = ["list the files of a folder", "show a directory's content", "bake a cake", "a recipe for bread"]
    places, vectors = opened(given)
    alike = vectors @ vectors.T
    assert places == [0, 1, 2, 3]
    assert min(alike[0, 1], alike[2, 3]) > max(alike[0, 2], alike[0, 3], alike[1, 2], alike[1, 3])
    assert np.allclose(np.diag(alike), 1, atol=1e-5)
    places, vectors = opened(given * 50)
    assert len(places) == len(vectors) <= 20
    assert places == sorted(places)


def test_an_embedder_that_is_damaged_costs_the_topics_alone(tmp_path: Path) -> None:
    folder = tmp_path / "embedders" / embedder.NAME
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.onnx").write_bytes(b"half a file")
    opened = embedder.open_embedder(tmp_path, 1000)
    assert opened is not None
    rows = [pair(i, f"question {i}") for i in range(60)]
    found = made(write(tmp_path, {"train": rows, "validation": [], "held_out": []}), embed=opened)
    assert found["topics"]["missing"].startswith("the embedder failed: ")


def test_hostile_names_are_drawn_as_text() -> None:
    names = [
        "\x00\x1b[2J",
        "\u202egnp.exe",
        "</svg><script>",
        "&amp;",
        "datum.x = 1",
        "signal({})",
        "x" * 10_000,
        "😀",
        "",
        " ",
    ]
    for html in (
        plots.bars("<b>", dict.fromkeys(names, 1)),
        plots.over_time("t", "day", {n: {"d": 1} for n in names[:5]}),
    ):
        svg = html[: html.index("</svg>") + 6]
        assert ElementTree.fromstring(svg).tag.endswith("svg")  # noqa: S314 - made here
        assert "<script" not in html
        assert len(svg) < 60_000


def test_without_the_embedder_there_are_no_topics(files: dict[str, Path], tmp_path: Path) -> None:
    assert embedder.open_embedder(tmp_path, 1000) is None
    found = made(files)
    assert "not on this machine" in found["topics"]["missing"]
    assert "not on this machine" in page("p", found)


def row(record_id: str, prompt: str, split: str = "train") -> texts.Sampled:
    return texts.Sampled(record_id, split, "prompt_completion", "prompt_completion", prompt, "")


def test_held_out_rows_that_stand_in_training_are_found() -> None:
    long = " ".join(f"w{i}" for i in range(30))
    half = " ".join(long.split()[:15]) + " x y z"
    judged = [
        row("same", long.upper()),
        row("half", half),
        row("new", "q " * 20),
        row("short", "w1 w2"),
    ]
    few = " ".join([*long.split()[:8], *(f"z{i}" for i in range(20))])
    trained = [row("a", " ".join(long.split()[:8])), row("t", f"before {long} after")]
    found = leakage.leakage(leakage.grams(trained), [*judged, row("few", few)])
    assert (found["sampled"], found["compared"], found["sharing"], found["overlapping"]) == (5, 4, 3, 2)
    assert [(each["record_id"], each["trained"]) for each in found["examples"]] == [
        ("same", "t"),
        ("half", "t"),
        ("few", "a"),
    ]
    assert found["examples"][0]["share"] == 1.0


def test_what_of_a_named_evaluation_set_stands_in_training_is_told(tmp_path: Path) -> None:
    leaked = pair(1, " ".join(f"asked{i}" for i in range(12)))
    new = pair(77, " ".join(f"new{i}" for i in range(20)))
    for name in ("own", "exam"):
        (tmp_path / name).mkdir()
    files = write(tmp_path / "own", {"train": [leaked], "validation": [], "held_out": []})
    exam_rows = {"train": [new], "validation": [], "held_out": [leaked | {"record_id": "exam-1"}]}
    exam = write(tmp_path / "exam", exam_rows)
    found = made(files, against={"<exam>@1": exam})
    told = found["leakage"]["against"]["<exam>@1"]
    assert (told["sampled"], told["compared"], told["sharing"], told["overlapping"]) == (2, 2, 1, 1)
    assert told["examples"] == [{"record_id": "exam-1", "share": 1.0, "trained": leaked["record_id"]}]
    assert made(files)["leakage"]["against"] == {}
    html = page("p", found)
    assert f"exam-1</code> 100 %, as {leaked['record_id']}" in html
    assert "&lt;exam&gt;@1" in html
    assert "<exam>" not in html


def test_records_that_repeat_each_other_are_one_cluster(tmp_path: Path) -> None:
    kept = pair(1, "the one")
    drops = [
        {**pair(i, f"the one {i}"), "reason": reason, "because_of": of}
        for i, reason, of in ((2, "duplicate", "r01"), (3, "near_train", "r02"), (4, "duplicate", "r99"))
    ]
    drops.append({**pair(5, "short"), "reason": "too_short", "because_of": None})
    found = repeats.repeats(write(tmp_path, {"train": [kept], "validation": [], "held_out": []}, drops), SPLITS)
    assert (found["clusters"], found["records"]) == (2, 3)
    first, second = found["largest"]
    assert (first["kept"], first["size"]) == ({"record_id": "r01", "text": "the one\nanswer 1"}, 3)
    assert [each["record_id"] for each in first["others"]] == ["r02", "r03"]
    assert (second["kept"], second["size"]) == ({"record_id": "r99", "text": ""}, 2)
    assert repeats.clusters([("a", "duplicate", "b"), ("b", "duplicate", "a")])  # what no freeze writes ends, too


def test_preferences_and_labels_are_measured(tmp_path: Path) -> None:
    pairs = [
        {
            "record_id": f"p{i}",
            "format": "preference",
            "record": {"prompt": "q", "chosen": "x" * 30, "rejected": "y" * n},
        }
        for i, n in enumerate((10, 20, 60))
    ]
    verdict = {"prompt": "q", "completion": "<EMAIL_ADDRESS_1>"}
    labelled = [
        {
            "record_id": f"l{i}",
            "format": "unpaired_preference",
            "record": {**verdict, "label": i > 0},
        }
        for i in range(3)
    ]
    found = made(write(tmp_path, {"train": pairs, "validation": labelled, "held_out": []}))
    assert found["preferences"]["labels"] == {"desirable": 2, "undesirable": 1}
    assert (found["preferences"]["pairs"], found["preferences"]["chosen_longer"]) == (3, 2)
    assert (found["preferences"]["percent"]["least"], found["preferences"]["percent"]["greatest"]) == (50, 300)
    assert found["placeholders"] == {"EMAIL_ADDRESS": 3}
    assert "The chosen one is the longer one in 2 of 3" in page("p", found)


def test_every_kind_that_the_door_redacts_is_counted() -> None:
    text = " ".join(f"<{kind.name}_1>" for kind in KINDS)
    assert placeholders(row("r", text)) == {kind.name for kind in KINDS}
    assert not placeholders(row("r", "<DEVICE> <STATE>"))


@pytest.mark.parametrize(("hours", "unit", "buckets"), [(1, "hour", 10), (24, "day", 10), (24 * 31, "month", 10)])
def test_sources_are_counted_over_time(tmp_path: Path, hours: int, unit: str, buckets: int) -> None:
    begin = datetime(2026, 1, 3, tzinfo=UTC)
    times = [begin + timedelta(hours=hours * (i // 2)) for i in range(20)]
    rows = {"tags": ['{"source":"web"}', '{"source":"app"}'] * 10, "accepted_at": times}
    pq.write_table(pa.table(rows), tmp_path / "train")
    found = sources.over_time({"train": tmp_path / "train"}, ["train"], ["lang", "source"])
    assert found is not None
    assert (found["tag"], found["unit"], set(found["counts"])) == ("source", unit, {"web", "app"})
    assert sum(found["counts"]["web"].values()) == 10
    assert len(found["counts"]["web"]) == buckets
    odd = ['{"source":"a\\"b"}', '{"x":",\\"source\\":\\"no\\""}', '{"sourced":"no"}']
    pq.write_table(pa.table({"tags": odd, "accepted_at": times[:3]}), tmp_path / "odd")
    quoted = sources.over_time({"train": tmp_path / "odd"}, ["train"], ["source"])
    assert quoted is not None
    assert {name: sum(n.values()) for name, n in quoted["counts"].items()} == {"none": 2, 'a"b': 1}
    pq.write_table(pa.table({"tags": ["{}"]}), tmp_path / "old")
    assert sources.over_time({"train": tmp_path / "old"}, ["train"], []) is None


class Reader(HTMLParser):
    """Notes the elements, what they would load, and what a screen reader is told of images and tables."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.loads: list[str] = []
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "srcset", "data") or name.startswith("on")]
        self.images += [dict(attrs)] if tag == "svg" else []


def test_the_page_needs_nothing_else_and_runs_nothing(files: dict[str, Path]) -> None:
    html = page("shell-copilot", made(files, embed=embed))
    reader = Reader()
    reader.feed(html)
    assert "script" not in reader.names
    assert not reader.loads
    assert "url(" not in html
    assert "@import" not in html
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html
    assert len(html) < 300_000


def test_every_plot_is_an_image_with_a_name_and_a_table(files: dict[str, Path]) -> None:
    html = page("p", made(files, embed=embed))
    reader = Reader()
    reader.feed(html)
    assert len(reader.images) >= 8
    assert all(image["role"] == "img" and image["aria-label"] for image in reader.images)
    assert reader.names.count("caption") == len(reader.images)
    assert page("p", made(files, embed=embed)) == html


def test_the_page_shows_counts_drops_and_examples(files: dict[str, Path]) -> None:
    text = re.sub(r"<[^>]+>", " ", page("shell-copilot", made(files)))
    assert "a" * 64 in text
    assert "same content as another record" in text
    assert "1 records that were left out repeat 1" in text
    assert "answer" in text


def test_the_page_of_an_empty_dataset_is_a_page(tmp_path: Path) -> None:
    empty = write(tmp_path, {split: [] for split in SPLITS})
    assert "No record was left out" in page("p", made(empty))
