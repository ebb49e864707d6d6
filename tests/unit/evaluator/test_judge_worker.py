"""An evaluation with a judge, from the job's specification to its outcome: a tiny base, a real port, a real database."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from contracts.judge import Judge, JudgeReport, why_not, words
from contracts.types import ArtifactRef
from services.chassis.storage.database import open_engine
from services.chassis.storage.migration import migrate
from services.evaluator import worker
from services.evaluator.domain.task import Outcome
from services.evaluator.settings import EvaluatorSettings
from tests.scripted_endpoint import Endpoint, Request, endpoint, fails
from tests.unit.evaluator.conftest import MIGRATIONS
from tests.unit.evaluator.test_evaluator_worker import PAIRS, Bench

PEOPLE = 12
PREFERENCES = tuple(
    {"prompt": f"question {n}", "chosen": "right" if n % 3 else "right at length", "rejected": "wrong, and more"}
    for n in range(PEOPLE)
)


def prefers(wanted: str) -> Any:
    """Answers A or B by which of both holds `wanted`, the first of two that do or do not: a judge with an eye for order."""

    def act(request: Request) -> None:
        user = request.sent["messages"][1]["content"]
        first = user.split("<answer-A")[1].split("</answer-A")[0]
        second = user.split("<answer-B")[1].split("</answer-B")[0]
        better = "B" if wanted in second and wanted not in first else "A"
        message = {"role": "assistant", "content": json.dumps({"reason": "so", "better": better})}
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        request.whole(200, {"choices": [{"message": message}], "usage": usage})

    return act


@pytest.fixture
def port() -> Iterator[Endpoint]:
    with endpoint() as made:
        made.say(prefers("right"))
        yield made


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(autouse=True)
def here(bench: Bench, port: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "choose", lambda: ("cpu", torch.float32))
    monkeypatch.setenv("NORIA_EVALUATOR_ARTIFACTS", bench.store.root)
    monkeypatch.setenv("NORIA_HOME", str(tmp_path))
    monkeypatch.setenv("NORIA_EVALUATOR_JUDGE_HOSTS", port.url.removesuffix("/v1"))
    engine = open_engine(EvaluatorSettings())
    migrate(engine, "evaluator", MIGRATIONS)
    engine.dispose()


def judge(port: Endpoint, **more: Any) -> Judge:
    given = {"url": port.url, "model": "large-1", "rubric": "Be right.", "price": {"prompt": 10, "completion": 100}}
    return Judge.model_validate(given | more)


def run(bench: Bench, tmp_path: Path, judge: Judge | None, split: ArtifactRef, name: str = "job") -> Outcome:
    rules = ("judge > champion", "judge > 55", "chrf > champion")
    task = bench.task(judge=judge, split=split, require=rules, project="shop", suite=("chrf",))
    return Outcome.model_validate(worker.run(task.model_dump(mode="json"), tmp_path / name, lambda _: None))


@pytest.fixture(scope="module")
def split(bench: Bench) -> ArtifactRef:
    return bench.put_split("judged", PAIRS, PREFERENCES)


def report(outcome: Outcome) -> JudgeReport:
    assert outcome.judge is not None
    return outcome.judge


def test_a_judge_is_a_metric_with_a_test_beside_its_agreement_with_people(
    bench: Bench, split: ArtifactRef, port: Endpoint, tmp_path: Path
) -> None:
    outcome = run(bench, tmp_path, judge(port), split)
    found = report(outcome)
    assert (found.people, found.asked, found.judged, found.equal) == (PEOPLE, 4, 4, 0)
    assert found.kappa is not None
    assert (found.kappa.value, found.kappa.n) == (1, PEOPLE)
    assert found.kappa.low > found.floor
    assert why_not(found) is None
    # The tiny models write noise: between equals this judge takes the first, so both orders contradict each other.
    assert (found.contradicted, outcome.metrics["judge"].value, outcome.differences["judge"].value) == (4, 50, 0)
    assert outcome.champion_metrics["judge"].value == 50
    assert outcome.tests.keys() == {"judge > champion", "chrf > champion"}
    assert (outcome.tests["judge > champion"].p, outcome.tests["judge > champion"].n) == (1, 4)
    assert (found.calls, found.cached, found.cost) == (2 * (PEOPLE + 4), 0, pytest.approx(32 * 0.002))
    assert found.first is not None
    assert found.first.value == pytest.approx(100 * (PEOPLE * 0.5 + 4) / (PEOPLE + 4))
    assert found.verdicts is not None
    rows = pq.read_table(bench.store.get(found.verdicts)).to_pylist()
    assert [row["kind"] for row in rows] == ["held_out"] * 4 + ["people"] * PEOPLE
    assert {row["win"] for row in rows if row["kind"] == "people"} == {1.0}
    assert any("agrees with people by kappa 1.00" in sentence for sentence in words(found))
    again = report(run(bench, tmp_path, judge(port), split, "again"))
    assert (again.calls, again.cached, again.cost) == (0, 32, 0)
    assert again.win_rate == found.win_rate


def test_who_wins_in_both_orders_wins(bench: Bench, split: ArtifactRef, port: Endpoint, tmp_path: Path) -> None:
    plain = run(bench, tmp_path, None, split, "plain")
    assert plain.judge is None
    assert "judge" not in plain.metrics
    rows = pq.read_table(bench.store.get(plain.results)).to_pylist()
    known = {row["candidate"] for row in rows}

    def act(request: Request) -> None:
        user = request.sent["messages"][1]["content"]
        first = user.split("<answer-A ")[1].split("\n</answer-A")[0].partition("\n")[2]
        better = "A" if first in known or "right" in first else "B"
        request.whole(200, {"choices": [{"message": {"content": json.dumps({"better": better})}}]})

    port.say(act)
    outcome = run(bench, tmp_path, judge(port), split, "wins")
    assert (outcome.metrics["judge"].value, outcome.differences["judge"].low) == (100, 50)
    assert (outcome.tests["judge > champion"].p, outcome.tests["judge > champion"].differing) == (1 / 16, 4)


def test_a_judge_that_disagrees_with_people_is_told_to_be_under_its_floor(
    bench: Bench, split: ArtifactRef, port: Endpoint, tmp_path: Path
) -> None:
    port.say(prefers("wrong"))
    found = report(run(bench, tmp_path, judge(port), split))
    assert found.kappa is not None
    assert found.kappa.value == -1
    assert "does not reach 0.4" in (why_not(found) or "")
    assert found.length_bias is not None
    assert (found.length_bias.value, found.length_bias.n) == (100, 8)  # of four both are as long


def test_whatever_the_judge_does_the_evaluation_ends(
    bench: Bench, split: ArtifactRef, port: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port.say(fails(500))
    outcome = run(bench, tmp_path, judge(port, retries=0, in_flight=1), split)
    found = report(outcome)
    assert (found.judged, found.win_rate, found.kappa, found.failures) == (0, None, None, {"failed": 5})
    assert "chrf" in outcome.metrics
    assert "judge" not in outcome.metrics
    assert "judged 0 of 4 examples (the judge failed 5 times in a row" in (why_not(found) or "")
    secret = report(run(bench, tmp_path, judge(port, key="LARGE"), split, "secret"))
    assert "NORIA_SECRET_LARGE" in (secret.ended or "")
    monkeypatch.setenv("NORIA_EVALUATOR_JUDGE_HOSTS", "api.example.com")
    host = report(run(bench, tmp_path, judge(port), split, "host"))
    assert f"put '{port.url.removesuffix('/v1')}' into NORIA_EVALUATOR_JUDGE_HOSTS" in (host.ended or "")
    assert len(port.requests) == 5


def test_without_people_the_agreement_is_not_known(bench: Bench, port: Endpoint, tmp_path: Path) -> None:
    found = report(run(bench, tmp_path, judge(port), bench.split))
    assert (found.judged, found.kappa, found.people) == (4, None, 0)
    assert "agreement with people is not known" in (why_not(found) or "")
