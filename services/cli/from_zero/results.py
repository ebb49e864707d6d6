"""What the example came to: figures of each version on questions that nobody asked, as tables and as a page. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.cli.from_zero.traffic import Answer
from services.lm.scoring.intervals import Interval, difference, mean, share
from services.lm.scoring.metrics import chrf, exact_match, rouge_l

METRICS: Mapping[str, Callable[[str, str], float]] = {"chrF": chrf, "ROUGE-L": rouge_l, "exact match": exact_match}


@dataclass(frozen=True, slots=True)
class Measured:
    """A version's scores by metric, each 0 to 100, one a question, all in one order."""

    name: str
    about: str
    scores: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Told:
    """What stands above the figures."""

    title: str
    lines: tuple[str, ...]


def measured(name: str, about: str, answers: Sequence[Answer]) -> Measured:
    """The answers' scores."""
    return Measured(
        name,
        about,
        {
            metric: tuple(score(answer.text, answer.question.reference) for answer in answers)
            for metric, score in METRICS.items()
        },
    )


def figure(metric: str, scores: Sequence[float]) -> Interval:
    """The mean with its 95% interval; of exact match Wilson's."""
    if metric != "exact match":
        return mean(scores)
    value, low, high = share(sum(score == 100 for score in scores), len(scores))
    return 100 * value, 100 * low, 100 * high


def rows(versions: Sequence[Measured]) -> Iterator[tuple[str, ...]]:
    """A line a version: its name, what it is, each metric with its interval."""
    for version in versions:
        yield (version.name, version.about, *(interval(figure(m, s)) for m, s in version.scores.items()))


def comparisons(versions: Sequence[Measured], pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, ...]]:
    """A line a pair (candidate, other): each metric's paired difference with its interval, and what chrF's says."""
    by_name = {version.name: version for version in versions}
    for first, second in pairs:
        one, other = by_name[first], by_name[second]
        found = {metric: difference(one.scores[metric], other.scores[metric]) for metric in METRICS}
        yield (f"{first} - {second}", *(interval(f, signed=True) for f in found.values()), sentence(found["chrF"]))


def summary(versions: Sequence[Measured], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """What helped and what did not, a line each."""
    told: dict[str, list[str]] = {}
    for line in comparisons(versions, pairs):
        told.setdefault(line[-1], []).append(line[0].replace(" - ", " against "))
    words = {"better": "Better by chrF", "worse": "Worse by chrF", "not shown to differ": "Not shown to differ by chrF"}
    return [f"{words[what]}: {', '.join(told[what])}." for what in words if what in told]


def sentence(found: Interval) -> str:
    """What a difference says."""
    _, low, high = found
    return "better" if low > 0 else "worse" if high < 0 else "not shown to differ"


def interval(found: Interval, signed: bool = False) -> str:
    """'40.2 [36.1, 44.3]'."""
    value, low, high = (f"{part:{'+' if signed else ''}.1f}" for part in found)
    return f"{value} [{low}, {high}]"


HEAD = ("version", "what it is", *METRICS)
PAIRED = ("difference", *METRICS, "by chrF")


def page(told: Told, versions: Sequence[Measured], pairs: Sequence[tuple[str, str]]) -> str:
    """The page as Markdown."""
    parts = [
        f"# {told.title}",
        *told.lines,
        markdown(HEAD, rows(versions)),
        "Differences are paired by question:",
        markdown(PAIRED, comparisons(versions, pairs)),
        *summary(versions, pairs),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(head: Sequence[str], lines: Iterator[tuple[str, ...]]) -> str:
    """A table."""
    body = [head, ("---",) * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in body)
