"""Questions crossed with models: what is asked, and what the checks of a case make of the answers. Asks nobody."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from services.cli.errors import Usage
from services.cli.prompts.around import Around, body, rendered
from services.cli.prompts.asking import Answer
from services.cli.prompts.cases import MOST, Case, Cases, parse
from services.cli.prompts.checks import Failure, Given, failures
from services.cli.prompts.known import prompt_of
from services.cli.yaml_file import FileInvalid


@dataclass(frozen=True, slots=True)
class Question:
    """The turns before an answer, and the values of variables that it brings."""

    title: str
    turns: Sequence[Mapping[str, str]]
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A question to a model, as the request that asks it."""

    title: str
    model: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """A case at a model: its answer, and the checks that do not hold."""

    trial: Trial
    answer: Answer
    failures: Sequence[Failure]


def cases_of(file: Path) -> Cases:
    """The cases of a file. Raises Usage with line and key of all that is wrong."""
    try:
        return parse(file.read_bytes())
    except OSError as error:
        raise Usage("cannot_read", f"{file}: {error.strerror}") from error
    except FileInvalid as error:
        problems = [{"line": p.line, "key": p.key, "message": p.message} for p in error.problems]
        raise Usage("invalid_cases", f"{file}:\n{error}", problems) from error


def questions(text: str | None, file: Path | None) -> list[Question]:
    """The question typed, or those of a file: one a line, or the cases of a .yaml. Raises Usage."""
    if (text is None) == (file is None):
        raise Usage("no_question", "give a question, or --file with questions")
    if text is not None:
        return [_line(text)]
    assert file is not None  # noqa: S101 - one of the two is given
    if file.suffix in (".yaml", ".yml"):
        return of_cases(cases_of(file))
    try:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise Usage("cannot_read", f"{file}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    asked = [_line(line) for line in lines if line]
    if not 0 < len(asked) <= MOST:
        raise Usage("no_question", f"{file} has {len(asked)} questions; give 1 to {MOST}, one a line")
    return asked


def of_cases(cases: Cases) -> list[Question]:
    """What a file of cases asks; what a case does not say, the file says for all."""
    return [
        Question(one.title, one.turns, cases.variables | one.variables, one.max_tokens or cases.max_tokens)
        for one in cases.cases
    ]


def _line(text: str) -> Question:
    return Question(" ".join(text.split())[:200], ({"role": "user", "content": text},))


def assignments(raw: Iterable[str]) -> dict[str, str]:
    """The variables of NAME=VALUE texts. Raises Usage."""
    found: dict[str, str] = {}
    for one in raw:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise Usage("bad_variable", f"--var {one!r} is no variable; give NAME=VALUE")
        found[name] = value
    return found


def crossed(
    around: Around, asked: Sequence[Question], models: Sequence[str], variables: Mapping[str, str]
) -> list[Trial]:
    """Each question to each model, question by question; `variables` over the questions' own. Raises Usage."""
    return [
        Trial(
            one.title, model, _limited(body(around, model, one.turns, {**one.variables, **variables}), one.max_tokens)
        )
        for one in asked
        for model in models
    ]


def _limited(body: Mapping[str, Any], max_tokens: int | None) -> Mapping[str, Any]:
    return body if max_tokens is None else {**body, "max_tokens": max_tokens}


def before(around: Around, one: Question, variables: Mapping[str, str]) -> list[dict[str, Any]]:
    """A question as the model is shown it, behind the prompt. Raises Usage, Refused, Unreachable."""
    prompt = around.prompt or prompt_of(around.project, around.version)
    return rendered(prompt, one.turns, {**one.variables, **variables})


def judged(found: Sequence[tuple[Trial, Answer]], cases: Sequence[Case]) -> list[Result]:
    """Each answer with the checks of its case that do not hold; one that was refused fails as a whole."""
    return [Result(trial, answer, _failures(case, answer)) for (trial, answer), case in zip(found, cases, strict=True)]


def _failures(case: Case, answer: Answer) -> list[Failure]:
    if answer.error:
        return [Failure("answer", "an answer", answer.error)]
    return failures(case.checks.listed(), Given(answer.text, answer.tokens, answer.seconds))


def document(answer: Answer) -> dict[str, Any]:
    """An answer as --json tells it."""
    told = asdict(answer)
    return {**told, "seconds": round(answer.seconds, 3)}


def report(project: str, number: int | None, results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """The outcome of a file of cases as --json tells it."""
    return {
        "project": project,
        "prompt": number,
        "passed": sum(not one.failures for one in results),
        "failed": sum(bool(one.failures) for one in results),
        "seconds": round(seconds, 3),
        "results": [
            {
                "case": one.trial.title,
                "model": one.trial.model,
                "passed": not one.failures,
                "failures": [asdict(failure) for failure in one.failures],
                **document(one.answer),
            }
            for one in results
        ],
    }
