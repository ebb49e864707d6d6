"""What `noria prompt try` and `test` have in common: which models are asked under which prompt, and the asking."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.errors import Usage
from services.cli.progress import progress

if TYPE_CHECKING:
    from services.cli.prompts.around import Around
    from services.cli.prompts.asking import Answer
    from services.cli.prompts.trial import Trial

Project = Annotated[str, typer.Argument(help="Whose prompt, and whose served model where --model does not say.")]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", help="A model as the gateway names it: PROJECT, PROJECT@VERSION, PROJECT@base; again for more."
    ),
]
Version = Annotated[
    int | None, typer.Option("--version", min=1, help="A prompt's number; the served one where not given.")
]
Variables = Annotated[list[str] | None, typer.Option("--var", help="NAME=VALUE of a variable; again for more.")]
PromptFile = Annotated[
    Path | None,
    typer.Option("--prompt", help="A project file whose prompt is used, applied or not, instead of --version."),
]
AtOnce = Annotated[int, typer.Option("--at-once", min=1, max=256, help="Questions at one time.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=1)]


def around(
    project: str, version: int | None, file: Path | None, models: Sequence[str], options: Mapping[str, Any]
) -> "Around":
    """The prompt of a number or of a file, with the parameters of all requests that are given.

    The gateway puts a project's prompt before that project's models alone; before others it is put here.

    Raises:
        Usage: of a file, as `of_file`; both are given.
        Refused, Unreachable: the registry does not tell the prompt.
    """
    from services.cli.prompts.around import Around
    from services.cli.prompts.known import of_file, prompt_of

    if version is not None and file is not None:
        raise Usage("two_prompts", "--version and --prompt are two prompts; give one of them")
    given = {name: value for name, value in options.items() if value is not None}
    if file is not None:
        return Around(project, None, of_file(file), given)
    others = any(model.partition("@")[0] != project for model in models)
    return Around(project, version, prompt_of(project, version) if others else None, given)


def asked(trials: "Sequence[Trial]", title: str, at_once: int) -> "list[tuple[Trial, Answer]]":
    """Each request with its answer, while a bar shows how many are there. Raises as `ask_all`."""
    from services.cli.prompts.asking import ask_all, gateway

    done = 0
    with progress(title) as advance:

        def told(index: int, answer: "Answer") -> None:
            nonlocal done
            done += 1
            advance(done / len(trials), f"{done} of {len(trials)}")

        answers = ask_all(gateway(), [one.body for one in trials], told, at_once)
    return list(zip(trials, answers, strict=True))
