"""Judges candidates by their scores, asks for another evaluation where another champion serves by then."""

from collections.abc import Iterable
from dataclasses import replace

from contracts.envelope import Event
from contracts.events.registry import EvaluationRequestedV1, ModelPromotedV1
from contracts.project import ProjectSpec
from services.registry.domain.promotion import Promotion
from services.registry.domain.spending import Look, spend
from services.registry.domain.spending import look as next_look
from services.registry.domain.verdict import Decision, Verdict, compares, decide
from services.registry.domain.version import ModelVersion, promoted, rejected, score
from services.registry.store import Store
from services.registry.transitions import Action, NotACandidate, move, promote

GATE = "gate"
ROUNDS = 5
"""So often a candidate is measured again before the registry asks for no more by itself, and it waits for a person."""
OPEN = 50
"""So many open or reopened candidates of a model, the newest, are judged again when its champion changes."""


class EvaluationGoesOn(ValueError):
    """The candidate is measured at this moment."""


def judge(store: Store, version: ModelVersion, action: Action) -> Iterable[Event]:
    """The gate's verdict on a candidate that has a score, carried out. The model's row is locked.

    `action` says when and by which event; who and why are the gate's.
    """
    name, scored = version.name, version.scored
    spec = store.projects.at(version.trained.project, version.trained.project_revision)
    if scored is None or spec is None or version.stage != "candidate":
        return ()
    if store.retired_after(name) is not None:
        store.keep(replace(version, detail="the project is out of service: apply it again, or promote by hand"))
        return ()
    look, before = _look(store, version)
    verdict = decide(spec, score(scored), _version_of(store.champion(name)), look)
    version = replace(version, evaluation="done", decision=_decision(version, spec, verdict, look))
    if verdict.findings and compares(spec) and scored.held_out and not before:
        store.spend(name, spend(look, scored.held_out))
    by_gate = replace(action, by=GATE, reason=verdict.detail)
    match verdict.decision:
        case "measure":
            return _measure_again(store, version, verdict.detail, by_gate)
        case "promote":
            return promote(store, replace(version, awaited=None), "gate", by_gate)
        case "reject":
            failed = replace(version, failed=verdict.failed, detail=verdict.detail, awaited=None)
            return (rejected(move(store, failed, "rejected", "gate", by_gate), GATE),)
        case "wait":
            if version.detail != verdict.detail:
                move(store, replace(version, detail=verdict.detail, awaited=None), "candidate", "gate", by_gate)
            else:
                store.keep(version)
            return ()


def _look(store: Store, version: ModelVersion) -> tuple[Look, bool]:
    """The comparison that the candidate's score is, and whether the candidate was judged by the same one before."""
    scored, known = version.scored, version.decision
    rows, champion = (scored.held_out, scored.champion.version) if scored else (None, 0)
    if known and known.look and known.same_comparison(champion, rows and rows.digest):
        return known.look, True
    return next_look(store.spent(version.name), rows), False


def _decision(version: ModelVersion, spec: ProjectSpec, verdict: Verdict, look: Look) -> Decision | None:
    scored = version.scored
    if scored is None or not verdict.findings:
        return version.decision
    return Decision(
        verdict=verdict.decision,
        detail=verdict.detail,
        evaluation_id=scored.evaluation_id,
        champion=scored.champion.version,
        alpha=spec.gate.alpha,
        look=look if compares(spec) else None,
        rows=scored.held_out and scored.held_out.digest,
        findings=verdict.findings,
    )


def _measure_again(store: Store, version: ModelVersion, why: str, action: Action) -> Iterable[Event]:
    """Asks for an evaluation against the champion of now, once for each champion and at most ROUNDS times."""
    against = _version_of(store.champion(version.name))
    if version.awaited == against:
        return ()
    if version.rounds >= ROUNDS:
        waits = f"{why}; it was measured {ROUNDS} times anew, each time another came: `noria evaluate`, promote or reject it"
        if version.detail != waits:
            outdated = replace(version, detail=waits, awaited=None, evaluation="outdated")
            move(store, outdated, "candidate", "evaluation", action)
        return ()
    return (_request_evaluation(store, version, against, action),)


def evaluate_again(store: Store, version: ModelVersion, action: Action) -> Iterable[Event]:
    """Asks, for a person, for an evaluation of a candidate against the champion of now; the model's row is locked.

    Raises:
        NotACandidate: it is none.
        EvaluationGoesOn: one is under way.
    """
    if version.stage != "candidate":
        raise NotACandidate(f"{version.name}@{version.version} is {version.stage}; only a candidate is judged")
    if version.evaluation == "pending":
        raise EvaluationGoesOn(f"{version.name}@{version.version} is being evaluated already")
    return (ask_for_evaluation(store, version, replace(action, reason=action.reason or f"{action.by} asked for it")),)


def ask_for_evaluation(store: Store, version: ModelVersion, action: Action) -> EvaluationRequestedV1:
    """Asks for an evaluation of a candidate against the champion of now; the model's row is locked."""
    spec = store.projects.at(version.trained.project, version.trained.project_revision)
    compares_base = spec is not None and spec.evaluate.compare == "base"
    against = 0 if compares_base else _version_of(store.champion(version.name))
    return _request_evaluation(store, version, against, action)


def _request_evaluation(store: Store, version: ModelVersion, against: int, action: Action) -> EvaluationRequestedV1:
    asked = {"rounds": version.rounds + 1, "awaited": against, "evaluation": "pending"}
    version = replace(version, detail=f"{action.reason}; waiting for a new evaluation", **asked)
    move(store, version, "candidate", "evaluation", action)
    return EvaluationRequestedV1(
        project=version.trained.project,
        model=version.ref,
        evaluation_id=requested_id(version),
        candidate=version.trained,
        champion=_champion_event(store, version.name),
        reason=action.reason,
    )


def requested_id(version: ModelVersion) -> str:
    """The id of the evaluation that was asked for last."""
    return f"eval-{version.trained.run_id}-r{version.rounds}"


def rejudge_open(store: Store, name: str, before: Promotion | None, action: Action) -> Iterable[Event]:
    """Judges the open candidates again where another version serves than `before`: their scores were against that one.

    Ends, since each turn but the last promotes a candidate. The model's row is locked.
    """
    events: list[Event] = []
    while _version_of(champion := store.champion(name)) != _version_of(before):
        before = champion
        for candidate in store.in_stage(name, "candidate", OPEN):
            if candidate.evaluation in ("done", "outdated"):
                events += judge(store, candidate, action)
    return events


def _version_of(promotion: Promotion | None) -> int:
    return promotion.version if promotion else 0


def _champion_event(store: Store, name: str) -> ModelPromotedV1 | None:
    champion = store.champion(name)
    version = store.version(name, champion.version) if champion and champion.version else None
    return promoted(version, champion) if version and champion else None
