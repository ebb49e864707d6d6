"""An evaluation's outcome with what the project's judge says of it. Whatever the judge does, the evaluation ends."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from contracts.gate import parse
from contracts.judge import Judge, JudgeReport
from contracts.types import Metric, PairedTest
from services.chassis.endpoints.hosts import host_of, is_allowed
from services.chassis.endpoints.secret import PREFIX, find_secret
from services.chassis.storage.artifacts import ArtifactStore
from services.chassis.storage.database import open_engine
from services.evaluator.domain.task import Outcome, Task
from services.evaluator.judge import client, figures
from services.evaluator.judge.asking import Tally, ask_all
from services.evaluator.judge.figures import Judged
from services.evaluator.judge.ledger import SqlLedger
from services.evaluator.judge.pairs import candidate_pairs, people_pairs, write_verdicts
from services.evaluator.judge.question import Body, Pair, both_orders, key
from services.evaluator.settings import EvaluatorSettings
from services.lm.scoring.paired import sign_flip

METRIC = "judge"
EVEN = 50.0
"""The champion's win rate over itself."""
Report = Callable[[dict[str, Any]], None]


def judged(
    task: Task,
    outcome: Outcome,
    store: ArtifactStore,
    settings: EvaluatorSettings,
    workdir: Path,
    report: Report,
) -> Outcome:
    """`outcome` with the judge's report and the metric `judge`; as it is where the task has no judge.

    Raises:
        ArtifactError: the split or the results are not to be had.
        DBAPIError: the database is away.
    """
    if task.judge is None:
        return outcome
    judge = task.judge
    people = people_pairs(store.get(task.split), task.candidate.prompt) if task.split else []
    pairs = candidate_pairs(store.get(outcome.results))
    questions = _questions([*people, *pairs], judge)  # people's first: without their agreement no other verdict counts
    total = len(questions)

    def done(number: int) -> None:
        report({"stage": METRIC, "done": number, "total": total})

    secret = find_secret(judge.key, settings.secrets) if judge.key else None
    engine = open_engine(settings)
    ledger = SqlLedger(engine, task.project)
    with client.open_client() as http:
        tally = ask_all(
            questions, judge, ledger, _asker(http, judge, secret), done, _hindrance(judge, secret, settings)
        )
    engine.dispose()
    by_people, by_examples = _judged(people, judge, tally.wins), _judged(pairs, judge, tally.wins)
    place = workdir / "verdicts.parquet"
    write_verdicts(place, by_examples, by_people)
    said = _report(judge, pairs, by_examples, by_people, tally).model_copy(update={"verdicts": store.put_file(place)})
    return _with(outcome, said, [each.win for each in by_examples], task.require)


def _asker(http: httpx.Client, judge: Judge, secret: str | None) -> Callable[[Body], client.Said]:
    return lambda body: client.ask(http, judge, secret, body)


def _hindrance(judge: Judge, secret: str | None, settings: EvaluatorSettings) -> str | None:
    """What the operator has to do before the judge can be asked."""
    if not is_allowed(judge.url, settings.judge_hosts):
        scheme = judge.url.partition("://")[0]
        entry = f"http://{host_of(judge.url)}" if scheme == "http" else host_of(judge.url)
        return f"the judge's host is not allowed: put {entry!r} into NORIA_EVALUATOR_JUDGE_HOSTS of the evaluator"
    if judge.key is not None and secret is None:
        where = f"set {PREFIX}{judge.key}, or put a file {judge.key} into the folder NORIA_EVALUATOR_SECRETS"
        return f"the judge's key {judge.key!r} is not here: {where}"
    return None


def _questions(pairs: Iterable[Pair], judge: Judge) -> dict[str, Body]:
    """By key; both orders of a pair follow each other, so that what ends early leaves whole pairs."""
    return {key(judge, body): body for pair in pairs if not pair.is_equal for body in both_orders(pair, judge)}


def _judged(pairs: Iterable[Pair], judge: Judge, wins: Mapping[str, float]) -> list[Judged]:
    """The pairs that were judged in both orders; equal answers are a tie."""
    found: list[Judged] = []
    for pair in pairs:
        if pair.is_equal:
            found.append(Judged(pair, figures.TIE, figures.TIE))
            continue
        own_first, other_first = (wins.get(key(judge, body)) for body in both_orders(pair, judge))
        if own_first is not None and other_first is not None:
            found.append(Judged(pair, own_first, 1 - other_first))
    return found


def _report(
    judge: Judge, pairs: Sequence[Pair], examples: Sequence[Judged], people: Sequence[Judged], tally: Tally
) -> JudgeReport:
    asked = [each for each in [*examples, *people] if not each.pair.is_equal]
    return JudgeReport(
        model=judge.model,
        host=host_of(judge.url),
        floor=judge.floor,
        asked=len(pairs),
        judged=len(examples),
        equal=sum(each.pair.is_equal for each in examples),
        contradicted=sum(each.is_contradicted for each in examples),
        win_rate=figures.win_rate([each.win for each in examples]),
        people=len(people),
        kappa=figures.kappa([each.win for each in people]),
        first=figures.first_wins(asked),
        consistent=figures.consistent(asked),
        longer=figures.longer_wins(examples),
        length_bias=figures.length_bias(people),
        shortened=sum(each.pair.is_shortened for each in asked),
        calls=tally.calls,
        cached=tally.cached,
        failures=dict(tally.failures),
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        cost=tally.cost if judge.price else None,
        currency=judge.price.currency if judge.price else None,
        ended=tally.ended,
    )


def _with(outcome: Outcome, report: JudgeReport, wins: Sequence[float], require: Iterable[str]) -> Outcome:
    """The win rate as a metric like the others: the champion's is EVEN, and rules are tested against it by example."""
    if report.win_rate is None:
        return outcome.model_copy(update={METRIC: report})
    rate, n = report.win_rate, report.win_rate.n
    own, even = [100 * win for win in wins], [EVEN] * n
    difference = rate.model_copy(update={"value": rate.value - EVEN, "low": rate.low - EVEN, "high": rate.high - EVEN})
    tests = {
        str(rule): PairedTest(margin=rule.margin, **asdict(sign_flip(own, even, rule.margin, rule.upward)))
        for rule in map(parse, require)
        if rule.metric == METRIC and rule.threshold is None
    }
    return outcome.model_copy(
        update={
            METRIC: report,
            "metrics": {**outcome.metrics, METRIC: rate},
            "champion_metrics": {
                **outcome.champion_metrics,
                METRIC: Metric(value=EVEN, low=EVEN, high=EVEN, n=n, unit=rate.unit),
            },
            "differences": {**outcome.differences, METRIC: difference},
            "tests": {**outcome.tests, **tests},
        }
    )
