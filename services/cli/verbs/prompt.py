"""`noria prompt list|show|diff`: the versions of a project's prompt."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import api
from services.cli.errors import Usage
from services.cli.output import AsJson, Limit, clock, show, table
from services.cli.verbs import prompt_cases, prompt_examples, prompt_search, prompt_try

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    help="Prompts are versions: list, show and compare a project's; try and test one; pick examples; search a better one.",
    no_args_is_help=True,
)
app.command("try")(prompt_try.try_prompt)
app.command("test")(prompt_cases.run_cases)
app.command("examples")(prompt_examples.examples)
app.command("optimise")(prompt_search.optimise)

Project = Annotated[str, typer.Argument(help="Whose prompts.")]


@app.command("list")
def list_prompts(project: Project, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List the versions of a project's prompt, newest first: since when, which model versions use them, which one serves."""
    from services.cli.prompts.known import path

    found = api.items("registry", path(project), limit)
    columns = {
        "prompt": lambda r: f"{r['project']}@{r['version']}",
        "digest": lambda r: str(r["digest"])[:12],
        "since": lambda r: clock(r.get("at")),
        "models": lambda r: ", ".join(str(version) for version in r.get("models") or ()) or None,
        "serves": lambda r: "yes" if r.get("serving") else None,
    }
    show(found, as_json, lambda: table(found["items"], columns, f"{project} has no prompt yet"))


@app.command("show")
def show_prompt(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="PROJECT, as it is defined now, or PROJECT@NUMBER.")],
    as_json: AsJson = False,
) -> None:
    """Show a prompt as the YAML of a project file."""
    from services.cli.prompts.known import parse, version
    from services.cli.prompts.yaml_text import section

    found = version(*parse(prompt))
    if as_json:
        show(found, True, lambda: "")
        return
    print(f"# prompt {found['version']} of {found['project']}, {found['digest']}\n{section(found['prompt'])}", end="")


@app.command("diff")
def diff(
    project: Project,
    before: Annotated[int, typer.Argument(metavar="A", min=1, help="A prompt's number.")],
    after: Annotated[int, typer.Argument(metavar="B", min=1, help="Another's.")],
    as_json: AsJson = False,
) -> None:
    """Show what differs between two versions of a project's prompt, key by key. Exit status 0 in any case."""
    from services.cli.prompts.known import version
    from services.cli.prompts.yaml_text import differences

    if before == after:
        raise Usage(
            "same_prompt", f"{before} and {after} are one prompt; give two numbers, as `noria prompt list` shows"
        )
    found = differences(version(project, before)["prompt"], version(project, after)["prompt"])
    document: dict[str, Any] = {"project": project, "before": before, "after": after, "changes": found}
    show(document, as_json, lambda: changes(found))


def changes(found: dict[str, list[str]]) -> "RenderableType":
    """Each key that differs, with the lines that were taken out and put in."""
    from rich.text import Text

    styles = {"+": "green", "-": "red", "@": "cyan"}
    said = Text()
    for key, lines in found.items():
        said.append(f"{key}:\n", "bold")
        for line in lines:
            said.append(f"  {line}\n", styles.get(line[:1], ""))
    return said or Text("the prompts are the same")
