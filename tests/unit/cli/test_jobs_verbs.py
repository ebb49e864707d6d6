"""`noria runs retry|cancel`, `noria datasets freeze`, `noria evaluate`: what is asked of which service, and what is said."""

import json
from typing import Any

import pytest

from services.cli.app import run
from tests.unit.cli.conftest import Services

WAITS: dict[str, Any] = {
    "run_id": "p-1-ab",
    "project": "p",
    "status": "queued",
    "attempt": 2,
    "retry_at": "2026-01-31T12:00:00+00:00",
    "last_error": {"code": "store_unavailable", "detail": "no answer"},
    "created_at": "2026-01-31T11:00:00+00:00",
}


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = run(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_a_run_that_waits_shows_its_attempt_its_next_try_and_why(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    services.say("GET", "/v1/runs", (200, {"items": [WAITS], "next": None}))
    status, text = said(capsys, "runs")
    assert status == 0
    assert all(part in text for part in ("p-1-ab", "attempt", "2", "next try", "2026-01-31", "store_unavailable"))


def test_a_run_is_retried(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    services.say("POST", "/v1/runs/p-1-ab/retry", (202, WAITS))
    assert run(["runs", "retry", "p-1-ab", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == WAITS
    status, text = said(capsys, "runs", "retry", "p-1-ab")
    assert (status, "p-1-ab is queued" in text) == (0, True)


def test_what_is_refused_is_told_in_the_service_s_words(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = {"error": {"code": "run_is_done", "message": "run 'x' is done and its model stands"}}
    services.say("POST", "/v1/runs/x/retry", (409, refusal))
    assert run(["runs", "retry", "x", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == refusal
    assert "its model stands" in captured.err


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        ("unknown_run", "no run 'x; y'; GET /v1/runs lists them", "no run 'x; y'; `noria runs` lists them"),
        (
            "unknown_dataset",
            "project 'p' has no dataset 3; see GET /v1/datasets",
            "project 'p' has no dataset 3; `noria datasets` lists them",
        ),
        (
            "unknown_project",
            "no project 'p'; define it with POST /v1/projects",
            "no project 'p'; define it with `noria apply FILE`",
        ),
        (
            "model_not_found",
            "The version '9' of 'p' is not deployed. GET /v1/models lists those that are.",
            "The version '9' of 'p' is not deployed; `noria models` lists them",
        ),
        ("unknown_run", "no run 'x' any more", "no run 'x' any more"),
    ],
)
def test_who_types_is_told_a_command_and_no_route(
    services: Services, capsys: pytest.CaptureFixture[str], code: str, message: str, told: str
) -> None:
    services.say("POST", "/v1/runs/x/retry", (404, {"error": {"code": code, "message": message}}))
    assert run(["runs", "retry", "x", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["message"] == told


@pytest.mark.parametrize(("status", "words"), [("cancelled", "is cancelled"), ("running", "is told to end")])
def test_a_run_is_cancelled(services: Services, capsys: pytest.CaptureFixture[str], status: str, words: str) -> None:
    services.say("POST", "/v1/runs/p-1-ab/cancel", (202, WAITS | {"status": status}))
    code, text = said(capsys, "runs", "cancel", "p-1-ab")
    assert (code, words in text) == (0, True)


def test_a_dataset_is_frozen_now(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "/v1/projects/p/freeze"
    services.say("POST", asked, (202, {"job": "freeze-p-3"}), (200, {"unchanged": True, "dataset": {"number": 7}}))
    assert "freeze-p-3" in said(capsys, "datasets", "freeze", "p")[1]
    assert "nothing changed since dataset #7" in said(capsys, "datasets", "freeze", "p")[1]
    services.say("GET", "/v1/datasets", (200, {"items": [], "next": None}))
    assert "with --project NAME" in said(capsys, "datasets")[1]
    assert "no dataset is frozen yet" in said(capsys, "datasets", "--project", "p")[1]


def test_what_a_project_waits_for_and_why_its_freeze_failed_is_told(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    services.say("GET", "/v1/datasets", (200, {"items": [], "next": None}))
    failure = {"code": "empty_dataset", "detail": "the step pattern left out the last of them, for example r1"}
    pending = {"changed": 7, "total": 9, "next_freeze": "after 493 more new or changed records, or on demand"}
    services.say("GET", "/v1/projects/p/pending", (200, pending | {"failure": failure}), (200, pending))
    assert run(["datasets", "--project", "p"]) == 0
    shown = capsys.readouterr().err
    assert "7 of 9 records" in shown
    assert "the next is frozen after 493 more" in shown
    assert "the last freeze failed: empty_dataset: the step pattern" in shown
    assert run(["datasets", "--project", "p"]) == 0
    assert "failed" not in capsys.readouterr().err
    services.say("GET", "/v1/datasets", (200, {"items": [], "next": None, "failures": [{"project": "q", **failure}]}))
    assert run(["datasets"]) == 0
    assert "q: the last freeze failed: empty_dataset: the step pattern" in capsys.readouterr().err


def test_a_version_that_is_decided_on_is_measured_again_by_its_newest_evaluation(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    services.say("GET", "/v1/models/p/2", (200, {"run_id": "r2", "stage": "archived"}))
    known = [("eval-r3", "r3"), ("eval-r2-7", "r2"), ("eval-r2", "r2")]
    items = [{"evaluation_id": id, "run_id": run} for id, run in known]
    services.say("GET", "/v1/evaluations", (200, {"items": items, "next": None}))
    services.say("POST", "/v1/evaluations/eval-r2-7/retry", (202, {"status": "queued"}))
    status, text = said(capsys, "evaluate", "p@2")
    assert (status, "p@2 is measured again (queued)" in text) == (0, True)
    services.say("GET", "/v1/evaluations", (200, {"items": [], "next": None}))
    services.say("POST", "/v1/evaluations/eval-r2/retry", (202, {"status": "queued"}))
    assert said(capsys, "evaluate", "p@2")[0] == 0


@pytest.mark.parametrize("status", ["done", "failed", "outdated"])
def test_a_candidate_is_measured_again_at_the_registry_s_request(
    services: Services, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    services.say(
        "GET", "/v1/models/p/2", (200, {"run_id": "r2", "stage": "candidate", "evaluation": {"status": status}})
    )
    services.say("POST", "/v1/models/p/2/evaluate", (202, {}))
    assert "p@2 is measured again (requested)" in said(capsys, "evaluate", "p@2", "--by", "anna")[1]


def test_a_candidate_that_is_being_measured_is_tried_again_now(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    services.say(
        "GET", "/v1/models/p/2", (200, {"run_id": "r2", "stage": "candidate", "evaluation": {"status": "pending"}})
    )
    services.say("GET", "/v1/evaluations", (200, {"items": [], "next": None}))
    services.say("POST", "/v1/evaluations/eval-r2/retry", (202, {"status": "queued"}))
    assert said(capsys, "evaluate", "p@2")[0] == 0


@pytest.mark.parametrize(
    "arguments", [["runs", "retry"], ["runs", "cancel"], ["datasets", "freeze"], ["evaluate", "p"]]
)
def test_a_wrong_call_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, *arguments)[0] == 2
