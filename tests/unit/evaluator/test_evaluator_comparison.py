"""Two versions side by side: which evaluations and rows, what is said, over HTTP and as a page."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from contracts.evaluation import RIGHT
from contracts.types import ModelRef
from services.chassis.http.application import install_errors
from services.chassis.storage.artifacts import ArtifactStore
from services.evaluator.comparison_routes import add_comparisons
from services.evaluator.domain.comparison import TELLING, MeasuredRow, Side, common, compare, metrics, telling, verdict
from services.evaluator.domain.evaluation import Evaluation
from services.evaluator.domain.pairing import Subject, places
from services.evaluator.domain.predictions import Example, Prediction, Scores, scores
from services.evaluator.tables import read_results, write_results
from services.lm.scoring.holm import holm
from services.lm.scoring.paired import sign_flip
from tests.unit.evaluator.test_evaluator_handlers import PROJECT, START, outcome, trained

HOSTILE = "<script>alert('1')</script>\"& \u202e"
SUITE = ("loss", "exact_match", "chrf")


def side(chrf: list[float | None], answers: Sequence[str] | None = None, **columns: list[float | None]) -> Side:
    rows = [MeasuredRow(f"r{i}", f"user: q{i}", f"q{i}", "right", {}) for i in range(len(chrf))]
    return Side(rows, [*(answers or map(str, chrf))], Scores({"chrf": chrf, **columns}, [1] * len(chrf)))


def evaluation(run: str, champion: int, hours: int, **changes: Any) -> Evaluation:
    given = Evaluation(
        evaluation_id=f"eval-{run}-{hours}",
        run_id=run,
        project=PROJECT,
        project_revision="a" * 64,
        dataset=trained().dataset,
        champion=ModelRef(name=PROJECT, version=champion),
        created_at=START + timedelta(hours=hours),
        status="done",
        outcome=outcome(),
    )
    return given.model_copy(update=changes)


def test_an_evaluation_that_measured_both_is_taken_before_newer_ones_of_each():
    both = evaluation("run-3", 2, 1)
    known = [both, evaluation("run-3", 4, 5), evaluation("run-2", 1, 4)]
    found = places(known, Subject(2, "run-2"), Subject(3, "run-3"))
    assert [(p.evaluation, p.role) for p in found if p] == [(both, "champion"), (both, "candidate")]
    reverse = places(known, Subject(3, "run-3"), Subject(2, "run-2"))
    assert [p.role for p in reverse if p] == ["candidate", "champion"]
    alone = places(known, Subject(1, "run-1"), Subject(4, "run-4"))
    assert [p and (p.evaluation.run_id, p.role) for p in alone] == [("run-2", "champion"), ("run-3", "champion")]
    base = places(known, Subject(0, None), Subject(3, "run-3"))
    assert [p and (p.evaluation.evaluation_id, p.role) for p in base] == [
        ("eval-run-3-5", "base"),
        ("eval-run-3-5", "candidate"),
    ]
    failed = [evaluation("run-9", 1, 9, outcome=None)]
    assert places(failed, Subject(9, "run-9"), Subject(0, None)) == (None, None)


def test_rows_are_common_where_record_question_and_reference_are():
    a, b = side([1.0, 2.0, 3.0]), side([4.0, 5.0, 6.0])
    b.rows[0], b.rows[2] = b.rows[2], MeasuredRow("r1", "system: x\nuser: q1", "q1", "right", {})
    b.rows[1] = MeasuredRow("r0", "user: q0", "q0", "was corrected", {})
    first, second = common(a, b)
    assert [row.record_id for row in first.rows] == [row.record_id for row in second.rows] == ["r1", "r2"]
    assert (first.scores.values["chrf"], second.scores.values["chrf"]) == ([2.0, 3.0], [6.0, 4.0])
    assert second.answers == ["6.0", "4.0"]


def test_each_metric_is_tested_both_ways_and_adjusted_over_the_metrics():
    n = 30
    a = side([50.0 + i % 7 for i in range(n)], loss=[1.0] * n, bleu=[5.0] * n, rouge_l=[float(i % 2) for i in range(n)])
    worse, better = [2.0 + i % 3 for i in range(n)], [60.0 + i % 5 for i in range(n)]
    b = side([*better], loss=[*worse], bleu=[5.0] * n, rouge_l=[float((i // 2) % 2) for i in range(n)])
    found = {each.metric: each for each in metrics(a.scores, b.scores)}
    assert {name: each.finding for name, each in found.items()} == {
        "chrf": "better",
        "loss": "worse",
        "bleu": "same",
        "rouge_l": "not told apart",
    }
    one_sided = sign_flip(worse, [1.0] * n, 0.0, True, flips=9_999).p
    assert found["loss"].p == pytest.approx(2 * one_sided)
    assert holm({name: each.p for name, each in found.items()}) == {name: each.adjusted for name, each in found.items()}
    assert found["loss"].difference.value == pytest.approx(sum(worse) / n - 1)
    assert (found["chrf"].a.value, found["chrf"].b.n) == (pytest.approx(sum(50 + i % 7 for i in range(n)) / n), n)


@pytest.mark.parametrize(
    ("chrf", "loss", "says"),
    [
        (9.0, 0.5, "p@2 is better than p@1 by chrf +"),
        (-9.0, 3.0, "p@2 is worse than p@1 by chrf -"),
        (9.0, 3.0, "and worse by loss +"),
        (0.0, 1.0, "p@2 answers as p@1 does on 40 rows."),
    ],
)
def test_the_verdict_is_one_sentence(chrf: float, loss: float, says: str):
    n = 40
    a, b = side([50.0] * n, ["x"] * n, loss=[1.0] * n), side([50.0 + chrf] * n, ["x"] * n, loss=[loss] * n)
    found = compare(a, b, RIGHT)
    sentence = verdict("p@1", "p@2", found["metrics"], n, found["differing"])
    assert says in sentence


def test_noise_is_no_verdict():
    a, b = side([float(i % 2) for i in range(40)]), side([float((i // 2) % 2) for i in range(40)])
    found = compare(a, b, RIGHT)
    assert verdict("p@1", "p@2", found["metrics"], 40, found["differing"]) == (
        "p@1 and p@2 are not told apart on 40 rows: no metric differs by more than chance."
    )


def test_the_answers_that_differ_most_are_told_whichever_is_better():
    values: list[float | None] = [50.0 + (i if i % 2 else -i) for i in range(50)]
    by, found = telling(side([50.0] * 50), side([*values[:49], None]))
    assert by == "chrf"
    assert [row["record_id"] for row in found[:3]] == ["r48", "r47", "r46"]
    assert [row["difference"] for row in found[:2]] == [-48.0, 47.0]
    assert len(found) == TELLING
    assert telling(side([1.0]), side([1.0]))[1] == []
    n: list[float | None] = [1.0]
    alone = Side(side(n).rows, [None], Scores({"loss": n}, [1]))
    assert telling(alone, alone)[0] == "loss"


def results(path: Path, answers: dict[str, list[str]], n: int, first: int = 0, old: bool = False) -> Path:
    """The results of `n` examples of which the roles answered so, in turns."""
    examples = [
        Example(
            f"r{i}",
            ({"role": "system", "content": "Shell."}, {"role": "user", "content": f"ask {i} {HOSTILE}"}),
            "tar -c",
            tags={"tool": "tar" if i % 2 else HOSTILE, **({"origin": "feedback"} if i == first else {})},
        )
        for i in range(first, first + n)
    ]
    found = {
        role: {x.key: Prediction(said[i % len(said)], 1.0 + len(said), 3) for i, x in enumerate(examples)}
        for role, said in answers.items()
    }
    scored = {role: scores(examples, known, SUITE) for role, known in found.items()}
    write_results(path, dict.fromkeys(answers, examples), found, scored)
    if old:
        import pyarrow.parquet as pq

        pq.write_table(pq.read_table(path).drop_columns(["question", "tags"]), path)
    return path


def test_results_are_read_as_they_were_written(tmp_path: Path):
    path = results(tmp_path / "r.parquet", {"candidate": ["tar -c", "ls"], "champion": ["ls"], "base": ["x"]}, 4)
    found = read_results(path, "candidate")
    assert found.answers == ["tar -c", "ls", "tar -c", "ls"]
    assert found.scores.values["exact_match"] == [100.0, 0.0, 100.0, 0.0]
    assert (list(found.scores.values), found.scores.tokens) == (list(SUITE), [3] * 4)
    assert found.rows[1].tags == {"tool": "tar"}
    assert found.rows[0].question == f"ask 0 {HOSTILE}"
    before = read_results(results(tmp_path / "old.parquet", {"candidate": ["ls"]}, 2, old=True), "candidate")
    assert (before.rows[0].question, before.rows[0].tags) == (None, {})


class Ctx:
    """The evaluations and the artifacts of a running evaluator."""

    def __init__(self, artifacts: ArtifactStore, known: list[Evaluation]) -> None:
        self.artifacts = artifacts
        self.store = SimpleNamespace(
            evaluations=lambda project, limit: [e for e in known if e.project == project][:limit],
            projects=SimpleNamespace(current=lambda _: None),
        )

    async def read(self, fn: Callable[[Any], Any]) -> Any:
        return await asyncio.to_thread(fn, self.store)


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """run-2 (version 2) measured beside version 1 on 40 rows, run-3 beside version 9 on 30 of which 20 are the same."""
    store = ArtifactStore((tmp_path / "artifacts").as_uri(), tmp_path / "cache")
    good, bad = ["tar -c"], ["tar -x", "ls"]
    paths = [
        results(tmp_path / "a.parquet", {"candidate": good, "champion": bad, "base": bad}, 40),
        results(tmp_path / "b.parquet", {"candidate": bad, "champion": good, "base": bad}, 30, 20),
        results(tmp_path / "c.parquet", {"candidate": bad, "champion": good, "base": bad}, 9, 500),
    ]
    runs = zip(("run-2", "run-3", "run-4"), (1, 9, 9), range(3), paths, strict=True)
    known = [
        evaluation(run, champion, at, outcome=outcome().model_copy(update={"results": store.put_file(path)}))
        for run, champion, at, path in runs
    ]
    lost = outcome().model_copy(update={"results": store.put_bytes(b"x").model_copy(update={"sha256": "0" * 64})})
    known.append(evaluation("run-5", 9, 9, outcome=lost))
    routes, app, ctx = APIRouter(), FastAPI(), Ctx(store, known)
    install_errors(app)
    given: Any = ctx
    add_comparisons(routes, given)
    app.include_router(routes)
    return TestClient(app)


def asked(client: TestClient, a: int, b: int, path: str = "", **runs: str) -> Any:
    return client.get(f"/v1/comparisons/{PROJECT}{path}", params={"a": a, "b": b, **runs})


def test_a_candidate_and_its_champion_are_compared_on_their_rows(client: TestClient):
    found = asked(client, 1, 2, b_run="run-2").json()
    assert found["verdict"].startswith(f"{PROJECT}@2 is better than {PROJECT}@1 by ")
    assert found["rows"] == {
        "a": 40,
        "b": 40,
        "both": 40,
        "same": True,
        "words": "both were measured on the same 40 held-out rows of dataset #1",
    }
    assert (found["advice"], found["differing"], len(found["differences"])) == (None, 40, 20)
    assert found["regressions"]["fixed"] == 1
    assert {d["value"] for d in found["slices"]["all"] if d["tag"]} >= {"tar"}
    back = asked(client, 2, 1, a_run="run-2").json()
    assert back["verdict"].startswith(f"{PROJECT}@1 is worse than {PROJECT}@2 by ")
    assert back["regressions"]["records"] == ["r0"]
    assert back["slices"]["worst"][0]["adjusted"] <= 0.05


def test_versions_of_two_evaluations_are_compared_on_common_rows_and_told_to_be(client: TestClient):
    found = asked(client, 2, 3, a_run="run-2", b_run="run-3").json()
    assert (found["rows"]["both"], found["rows"]["same"], found["metrics"][0]["difference"]["n"]) == (20, False, 20)
    assert found["rows"]["words"] == (
        f"not measured on the same rows: {PROJECT}@2 on 40 rows of dataset #1, {PROJECT}@3 on 30 rows of dataset #1; "
        "compared on the 20 that both have"
    )
    assert f"`noria evaluate {PROJECT}@3`" in found["advice"]


def test_what_cannot_be_compared_is_refused_with_what_to_do(client: TestClient):
    def error(answer: Any) -> tuple[int, str, str]:
        return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["message"]

    status, code, message = error(asked(client, 2, 4, a_run="run-2", b_run="run-4"))
    assert (status, code) == (409, "no_common_rows")
    assert "they have none in common" in message
    assert "`noria evaluate" in message
    status, code, message = error(asked(client, 2, 8, a_run="run-2", b_run="run-8"))
    assert (status, code) == (404, "not_measured")
    assert message.startswith(f"{PROJECT}@8 was measured by none")
    assert error(asked(client, 2, 2, a_run="r", b_run="r"))[:2] == (400, "same_version")
    assert error(asked(client, 0, 5, b_run="run-5"))[:2] == (409, "artifact_corrupt")


class Page(HTMLParser):
    """What stands on a page: tags, headings, captions, and whether all header cells say what they are of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.unscoped = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.unscoped += tag == "th" and "scope" not in dict(attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_whole_escaped_and_readable_by_screen_readers(client: TestClient):
    answer = asked(client, 2, 1, "/page", a_run="run-2")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    shown = Page(answer.text)
    assert "script" not in shown.tags
    assert not {"link", "img", "iframe"} & set(shown.tags)
    assert "src=" not in answer.text
    assert (shown.unscoped, shown.tags.count("h1")) == (0, 1)
    assert shown.tags.count("caption") == shown.tags.count("table") == 5
    words = "".join(shown.words)
    for told in (
        f"{PROJECT}@1 is worse than {PROJECT}@2 by ",
        "both were measured on the same 40 held-out rows",
        "is shown to be worse on",
        f"right by {PROJECT}@2 alone (lost)",
        "Lost: r0.",
        "The 20 answers that differ most by chrf, either way",
        f"ask 1 {HOSTILE}",
    ):
        assert told in words
    assert answer.text.startswith("<!doctype html><html lang=")


def test_a_page_of_rows_without_tags_or_corrections_says_so(tmp_path: Path):
    from services.evaluator.page import page

    n = 3
    a = side([50.0] * n)
    found = {
        "project": "p",
        "a": {"model": "p@1"},
        "b": {"model": "p@2"},
        "rows": {"words": "few"},
        "advice": None,
        "verdict": "v",
        **compare(a, a, RIGHT),
    }
    shown = page(found)
    for told in (
        "No part of the rows is large enough",
        "No held-out question has a correction",
        "No answer of the two differs",
    ):
        assert told in shown
