"""`noria prompt try`: served models are asked under a prompt, and a person looks at the answers."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import api
from services.cli.output import AsJson, note, show
from services.cli.verbs.prompt_ask import (
    AtOnce,
    MaxTokens,
    Models,
    Project,
    PromptFile,
    Variables,
    Version,
    around,
    asked,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from services.cli.prompts.around import Around
    from services.cli.prompts.asking import Answer
    from services.cli.prompts.trial import Trial


def try_prompt(
    project: Project,
    text: Annotated[str | None, typer.Argument(help="A question.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help="Questions: one a line, or a file of cases (.yaml), whose checks are not looked at."
        ),
    ] = None,
    model: Models = None,
    version: Version = None,
    var: Variables = None,
    prompt: PromptFile = None,
    max_tokens: MaxTokens = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
    at_once: AtOnce = 8,
    show_prompt: Annotated[bool, typer.Option("--rendered", help="Show what stands before the question, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask served models under a prompt: one as it writes, several side by side, with their tokens and times."""
    from services.cli.prompts import trial

    models = model or [project]
    under = around(project, version, prompt, models, {"max_tokens": max_tokens, "temperature": temperature})
    questions = trial.questions(text, file)
    variables = trial.assignments(var or [])
    before = trial.before(under, questions[0], variables) if show_prompt else None
    if before and not as_json:
        note("\n".join(f"[{turn['role']}] {turn['content']}" for turn in before))
    if len(models) == len(questions) == 1 and not as_json:
        _stream(under, models[0], questions[0].turns, dict(questions[0].variables) | variables)
        return
    found = asked(trial.crossed(under, questions, models, variables), f"asking {', '.join(models)}", at_once)
    document = {
        "project": project,
        "version": version,
        **({"rendered": before} if before else {}),
        "answers": [{"question": one.title, "model": one.model, **trial.document(answer)} for one, answer in found],
    }
    show(document, as_json, lambda: side_by_side(models, found))
    if all(answer.error for _, answer in found):
        raise typer.Exit(1)


def _stream(around: "Around", model: str, turns: Sequence[Mapping[str, str]], variables: Mapping[str, str]) -> None:
    from services.cli.prompts.around import body
    from services.cli.verbs.chat import ANSWER_TIMEOUT, chunks

    asked = body(around, model, turns, variables) | {"stream": True, "stream_options": {"include_usage": True}}
    first, usage = None, {}
    with api.client("serving", ANSWER_TIMEOUT) as http:
        began = time.monotonic()
        with http.stream("POST", "/v1/chat/completions", json=asked) as answer:
            if not answer.is_success:
                answer.read()
                api.checked("serving", answer)
            for chunk in chunks(answer.iter_lines()):
                first = first or time.monotonic()
                usage = chunk.get("usage") or usage
                for piece in _pieces(chunk):
                    sys.stdout.write(piece)
                    sys.stdout.flush()
            version = answer.headers.get("x-noria-model-version")
    print()
    took = time.monotonic() - began
    tokens = f"{usage.get('prompt_tokens', '?')} tokens read, {usage.get('completion_tokens', '?')} written"
    note(f"[{model}, version {version}: {tokens}, first after {(first or began) - began:.2f} s, {took:.2f} s in all]")


def _pieces(chunk: Mapping[str, Any]) -> Iterator[str]:
    for choice in chunk.get("choices") or ():
        yield (choice.get("delta") or {}).get("content") or ""


def side_by_side(models: Sequence[str], found: "Sequence[tuple[Trial, Answer]]") -> "RenderableType":
    """A row a question, a column a model: its answer, its tokens, its seconds."""
    from rich.markup import escape

    from services.cli.output import plain_table

    grid = plain_table(["question", *models])
    for at in range(0, len(found), len(models)):
        row = found[at : at + len(models)]
        grid.add_row(escape(row[0][0].title), *(_cell(answer) for _, answer in row))
    return grid


def _cell(answer: "Answer") -> str:
    from rich.markup import escape

    if answer.error:
        return f"[red]{escape(answer.error)}[/red]"
    told = f"version {answer.version}, {answer.tokens} tokens, {answer.seconds:.2f} s"
    return f"{escape(answer.text.strip())}\n[dim]{escape(told)}[/dim]"
