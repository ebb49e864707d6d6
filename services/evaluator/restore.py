"""How the evaluator's own events restore its state: what evaluations found."""

from collections.abc import Iterable

from contracts.envelope import Event, Meta
from contracts.events.evaluator import EvaluationFailedV1, ModelScoredV1
from services.chassis.errors import Park
from services.chassis.replay.restore import Restore
from services.evaluator.domain.evaluation import Evaluation, evaluation_id
from services.evaluator.domain.task import Outcome
from services.evaluator.store import SqlStore

_TOLD = {
    "metrics",
    "champion_metrics",
    "base_metrics",
    "differences",
    "results",
    "tests",
    "held_out",
    "slices",
    "regressions",
    "judge",
}


def on_model_scored(event: ModelScoredV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The evaluation is done, against the champion that it names."""
    told = event.model_dump(include=_TOLD)
    outcome = Outcome(**told, examples=0)
    ended = {"status": "done", "champion": event.champion, "outcome": outcome, "cause": None, "detail": None}
    store.keep(_evaluation(event.evaluation_id, store).model_copy(update=ended))
    return ()


def on_evaluation_failed(event: EvaluationFailedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The candidate could not be measured."""
    ended = {"status": "failed", "cause": event.cause, "detail": event.detail}
    store.keep(_evaluation(event.evaluation_id or evaluation_id(event.run_id), store).model_copy(update=ended))
    return ()


def _evaluation(id: str, store: SqlStore) -> Evaluation:
    found = store.evaluation(id)
    if found is None:
        raise Park("unknown_run", f"evaluation {id!r} is not planned yet")
    return found


_JOB = "about the measuring itself; its event tells only the figures"
RESTORE = Restore(
    events={ModelScoredV1: on_model_scored, EvaluationFailedV1: on_evaluation_failed},
    omitted={
        "predictions": "save asking a model twice; what is lost is asked again",
        "judge_call": "save asking a judge twice, and count what the day has cost",
        **{
            f"evaluation.document.outcome.{x}": _JOB
            for x in ("examples", "predictions", "skipped", "computed", "seconds")
        },
    },
)
