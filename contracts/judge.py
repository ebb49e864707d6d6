"""A model that judges answers: `evaluate.judge` of a project file, what it found, whether a gate counts it. Asks nobody."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Literal

from pydantic import Field

from contracts.endpoint import Endpoint
from contracts.sections import Duration
from contracts.types import ArtifactRef, Metric, Value

_NOTHING = timedelta(0)
MOST = 0.9
"""A judge that judged a smaller part of the examples is not counted: those left out are seldom like the others."""


class Judge(Endpoint):
    """The endpoint that says of each held-out example whose answer is better, the candidate's or the champion's."""

    rubric: str = Field(min_length=1, max_length=8000, description="What makes an answer better, in words")
    verdict: Literal["choice", "probability", "logprobs"] = Field(
        default="choice",
        description="What it answers: A, B or tie as JSON; a probability as JSON; one letter, whose log-probabilities count",
    )
    floor: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="Its agreement with people, the lower end of Cohen's kappa, under which no rule on it holds",
    )
    calls: int = Field(default=5000, ge=1, description="Requests a day (UTC); then it is not asked any more")
    timeout: Duration = Field(default=timedelta(seconds=60), gt=_NOTHING, description="Of one whole answer")
    within: Duration = Field(
        default=timedelta(minutes=30), gt=_NOTHING, description="Of all questions of an evaluation"
    )
    in_flight: int = Field(default=4, ge=1, le=64, description="Requests at once")
    max_tokens: int = Field(default=512, ge=1, le=8192, description="Most tokens of a verdict with its reason")
    length_parameter: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="How the endpoint calls the most tokens of an answer"
    )
    leave_out: tuple[Literal["temperature", "seed", "response_format"], ...] = Field(
        default=(), description="Parameters that the endpoint refuses: not sent to it"
    )


class JudgeReport(Value):
    """What a judge found on candidate and champion, how it agrees with people, what biases it shows, what it cost.

    Each pair of answers is judged in both orders. Figures in percent are 0 to 100.
    """

    model: str = Field(description="The model's name at its endpoint")
    host: str
    floor: float = Field(description="The least lower end of kappa with which a gate counts it")
    asked: int = Field(ge=0, description="Held-out examples on which candidate and champion gave an answer")
    judged: int = Field(ge=0, description="Of these, judged in both orders, equal answers included")
    equal: int = Field(default=0, ge=0, description="Of these, equal answers: a tie, not asked about")
    contradicted: int = Field(default=0, ge=0, description="Of these, judged otherwise in the other order: a tie")
    win_rate: Metric | None = Field(
        default=None, description="Percent that the candidate wins, a tie counting half; null: nothing was judged"
    )
    people: int = Field(default=0, ge=0, description="Held-out pairs on which people had chosen, as it was asked about")
    kappa: Metric | None = Field(
        default=None, description="Cohen's kappa of its verdicts and people's choices, -1 to 1; null: not known"
    )
    first: Metric | None = Field(default=None, description="Percent that the answer shown first wins; 50 without bias")
    consistent: Metric | None = Field(default=None, description="Percent of pairs on which both orders say the same")
    longer: Metric | None = Field(default=None, description="Percent that the longer answer wins, held-out examples")
    length_bias: Metric | None = Field(
        default=None, description="Percent that it chooses the longer answer beyond what people do, on their pairs"
    )
    shortened: int = Field(default=0, ge=0, description="Pairs of which it was shown a text without its middle")
    calls: int = Field(default=0, ge=0, description="Requests that were sent, repeated ones included")
    cached: int = Field(default=0, ge=0, description="Verdicts that were known from before")
    failures: dict[str, int] = Field(default_factory=dict[str, int], description="Requests that failed, by why")
    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)
    cost: float | None = Field(default=None, ge=0, description="Money; null: the project names no price")
    currency: str | None = None
    ended: str | None = Field(default=None, description="Why it was not asked to the end")
    verdicts: ArtifactRef | None = Field(
        default=None,
        description="Parquet: id, kind (held_out, people), the candidate's or chosen answer's win by order",
    )


def why_not(report: JudgeReport | None) -> str | None:
    """Why a gate does not count the judge; None where it does: it judged most examples, and agrees with people."""
    if report is None:
        return "no judge was asked"
    ended = f" ({report.ended})" if report.ended else ""
    if report.judged == 0 or report.judged < MOST * report.asked:
        return f"the judge judged {report.judged} of {report.asked} examples{ended}, of which {MOST:.0%} are needed"
    if report.kappa is None:
        return (
            f"the judge's agreement with people is not known: no held-out pair on which people chose was judged{ended}"
        )
    if report.kappa.low < report.floor:
        found = f"kappa {report.kappa.value:.2f} [{report.kappa.low:.2f}, {report.kappa.high:.2f}]"
        return f"the judge's agreement with people, {found} on {report.kappa.n} pairs, does not reach {report.floor:g}"
    return None


def words(report: JudgeReport) -> Iterator[str]:
    """The report in sentences."""
    ended = f"; {report.ended}" if report.ended else ""
    yield f"judge {report.model} at {report.host} judged {report.judged} of {report.asked} examples in both orders{ended}"
    if report.win_rate is not None:
        kinds = f"{report.equal} equal answers, {report.contradicted} contradicted in the other order: ties"
        yield f"it prefers the candidate in {_shown(report.win_rate)} percent; {kinds}"
    if report.kappa is not None:
        yield f"it agrees with people by kappa {_shown(report.kappa, 2)} on {report.kappa.n} pairs; {report.floor:g} is its floor"
    if report.first is not None and report.consistent is not None:
        yield (
            f"the answer shown first wins {_shown(report.first)} percent (50 without bias), "
            f"both orders say the same in {_shown(report.consistent)} percent"
        )
    if report.longer is not None:
        yield f"the longer answer wins {_shown(report.longer)} percent"
    if report.length_bias is not None:
        yield f"it chooses the longer answer {_shown(report.length_bias)} percent points beyond people"
    cost = "" if report.cost is None else f", {report.cost:.4g} {report.currency}"
    failed = "".join(f", {n} {why}" for why, n in sorted(report.failures.items()))
    yield f"{report.calls} requests{cost}, {report.cached} verdicts known from before{failed}"
    if (why := why_not(report)) is not None:
        yield f"no rule on it holds: {why}"


def _shown(metric: Metric, digits: int = 1) -> str:
    return f"{metric.value:.{digits}f} [{metric.low:.{digits}f}, {metric.high:.{digits}f}]"
