"""`noria explain` tells every value that went into a decision; the document is what the registry gives for it."""

import json
from typing import Any

import pytest

from contracts.project import ProjectSpec
from services.cli.app import run
from services.registry.domain.representation import InForce, explained
from services.registry.domain.spending import look, spend
from services.registry.domain.verdict import Decision, decide
from services.registry.domain.version import ModelVersion, score
from tests.unit.cli.conftest import Services
from tests.unit.registry.builders import PROJECT, START, rows, scored, trained


def document(judged: bool = True, **sections: Any) -> dict[str, Any]:
    event, model = scored("run-1", "a" * 64, 46), trained("run-1", "a" * 64)
    assert event.spec is not None
    spec = ProjectSpec.model_validate(event.spec.model_dump() | sections)
    event = event.model_copy(update={"spec": spec})
    assert event.spec is not None
    taken, version = look(None, event.held_out), ModelVersion(PROJECT, 1, "candidate", model, START)
    if judged:
        verdict = decide(event.spec, score(event), 0, taken)
        decision = Decision(
            verdict.decision, verdict.detail, event.evaluation_id, 0, 0.05, taken, None, verdict.findings
        )
        version = ModelVersion(PROJECT, 1, "production", model, START, event, verdict.detail, decision=decision)
    spent = spend(taken, rows("d" * 64)) if judged else None
    return json.loads(json.dumps(explained(version, InForce(1, 1), event.spec, spent)))


def told(services: Services, capsys: pytest.CaptureFixture[str], found: dict[str, Any], *options: str) -> str:
    services.say("GET", f"/v1/models/{PROJECT}/1/decision", (200, found))
    assert run(["explain", f"{PROJECT}@1", *options]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_every_value_is_told(services: Services, capsys: pytest.CaptureFixture[str]):
    found = document()
    shown = told(services, capsys, found)
    for value in (
        "shell-copilot@1 is production",
        f"dataset #1 ({found['dataset']['version'][:12]}) by run run-1",
        f"code {found['code'][:12]}",
        "the gate asks: chrf > champion; alpha 0.05, approval none",
        "evaluation eval-run-1, measured beside the base: promote",
        "chrf > champion: holds: +28 [27.6, 28.4] against the champion on 91 examples, p 1e-05 within 0.03",
        "comparison 1 on these held-out rows: decided at 0.03 of 0.05, 39% of which is left",
        "left by now: 39% of alpha",
        "chrf: 46 [44, 48], the base 18 [16, 20]",
        "7 parts of the rows by tag and by the question's length: none is shown to be worse (28 tests, p by Holm over all",
        "tool = awk: chrf 21.4 against 24.9 on 12, -3.5 [-9.1, 1.8], p 0.12 (1 by Holm)",
        "11 smaller parts are not compared",
        "of 9 held-out questions that people corrected 2 kept, 3 fixed, 1 lost to the base, 3 right by neither",
        "lost: correction-req-17",
        "judge large-1 at api.example.com judged 90 of 91 examples in both orders",
        "it prefers the candidate in 78.3 [71.1, 85.0] percent; 12 equal answers, 9 contradicted in the other order: ties",
        "it agrees with people by kappa 0.71 [0.45, 0.86] on 44 pairs; 0.4 is its floor",
        "the answer shown first wins 54.5 [51.2, 58.1] percent (50 without bias)",
        "it chooses the longer answer 4.1 [-6.8, 14.9] percent points beyond people",
        "247 requests, 0.3458 USD, 0 verdicts known from before, 2 busy, 1 nonsense",
        "p 1e-05 from a random choice of 99,999 sign flips; 91 of 91 examples differ, standard deviation 2",
    ):
        assert value in shown


def test_parts_that_are_shown_to_be_worse_are_told_alone(services: Services, capsys: pytest.CaptureFixture[str]):
    found = document()
    [first] = found["evaluation"]["slices"]["worst"]
    found["evaluation"]["slices"]["worst"] = [
        {**first, "tag": "", "value": "up to 9 characters", "adjusted": 0.04},
        first,
    ]
    shown = told(services, capsys, found)
    assert "1 of the differences shown are worse by more than chance" in shown
    assert "question of up to 9 characters: chrf" in shown
    assert "tool = awk" not in shown


def test_regressions_are_asked_for_and_told(services: Services, capsys: pytest.CaptureFixture[str]):
    shown = told(services, capsys, document(gate={"regressions": 0}))
    assert "the gate asks: chrf > champion; regressions <= 0;" in shown
    assert "measured beside the base: reject" in shown
    assert (
        "regressions <= 0: worse: 1 of 9 held-out questions that people corrected are right by the base and not by it"
        in shown
    )
    assert "correction-req-17" in shown


def test_an_evaluation_of_before_parts_tells_none(services: Services, capsys: pytest.CaptureFixture[str]):
    found = document()
    del found["evaluation"]["slices"], found["evaluation"]["regressions"], found["gate"]["regressions"]
    shown = told(services, capsys, found)
    assert "parts of the rows" not in shown
    assert "regression" not in shown


def test_programs_get_the_document(services: Services, capsys: pytest.CaptureFixture[str]):
    found = document()
    assert json.loads(told(services, capsys, found, "--json")) == found
    [finding] = found["decision"]["findings"]
    assert (finding["limit"], finding["p"], finding["settled_by"]) == (0, 1e-5, None)
    assert found["decision"]["look"]["number"] == 1


def test_a_version_that_was_not_judged_says_so(services: Services, capsys: pytest.CaptureFixture[str]):
    assert "the gate has not judged it" in told(services, capsys, document(judged=False))
