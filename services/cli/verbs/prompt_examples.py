"""`noria prompt examples`: few-shot examples from the training side of a dataset, as YAML for the project file."""

from typing import Annotated

import typer

from services.cli.dataset_name import parse
from services.cli.errors import Usage
from services.cli.output import AsJson, note, show

LOOKED_AT = 400
"""Records of the training side among which is picked."""


def examples(
    project: Annotated[str, typer.Argument(help="Whose dataset, the newest one where --dataset does not say.")],
    count: Annotated[int, typer.Option("--count", min=1, max=32, help="How many.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed looks at other records.")] = 7,
    dataset: Annotated[str | None, typer.Option("--dataset", help="PROJECT@NUMBER, as shell-copilot@1.")] = None,
    max_characters: Annotated[
        int, typer.Option("--max-characters", min=2, help="Of question and answer together.")
    ] = 600,
    as_json: AsJson = False,
) -> None:
    """Pick examples that stand for many records of the training side; prints what goes under `prompt:` of the project file."""
    from services.cli.prompts.picking import pick
    from services.cli.prompts.sampling import exchange, newest, sample
    from services.cli.prompts.yaml_text import to_yaml

    name, number = parse(dataset) if dataset else (project, newest(project))
    if name != project:
        raise Usage("other_project", f"{dataset} is of another project; give a dataset of {project}")
    rows = sample(project, number, "train", LOOKED_AT, seed)
    fit = [found for row in rows if (found := exchange(row, max_characters)) is not None]
    picked = pick(fit, count)
    if len(picked) < count:
        note(f"noria: of {len(rows)} records that were looked at only {len(fit)} are one question and a short answer")
    if not picked:
        raise Usage(
            "no_examples", f"{project}@{number} has no record that is one question and an answer of that length"
        )
    found = [{"user": one.user, "assistant": one.assistant} for one in picked]
    document = {
        "dataset": f"{project}@{number}",
        "looked_at": len(rows),
        "records": [one.record_id for one in picked],
        "examples": found,
    }
    if as_json:
        show(document, True, lambda: "")
        return
    print(f"# {len(found)} records of the training side of {project}@{number}, seed {seed}")
    print(to_yaml({"prompt": {"examples": found}}), end="")
