"""Every command of `noria` that a page shows is one that the command line takes; the e2e tests run most of them."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from services.cli.app import app

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(?:bash)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(noria [a-z][^`]*)`")
SHORT = ("Missing parameter", "requires an argument")
"""What is wrong with a command that a sentence names without its arguments."""


def blocks(page: Path) -> list[str]:
    """The commands of the page's blocks, without prompts, pipes and comments."""
    lines = "".join(BLOCK.findall(page.read_text())).replace("\\\n", " ").splitlines()
    return [_alone(line.strip()) for line in lines if line.strip().startswith("noria ")]


def named(page: Path) -> list[str]:
    """The commands between backticks in the page's sentences."""
    return [_alone(command) for command in INLINE.findall(page.read_text())]


def _alone(command: str) -> str:
    return re.split(r"\s+[#|>]|;|&&", command)[0]


def parse(arguments: list[str]) -> None:
    """Parses as the command line does, down to the verb, and runs nothing. Raises typer.TyperException."""
    command: Any = typer.main.get_command(app)
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command = command.commands[arguments[0]]
        arguments = arguments[1:]
    context = command.make_context("noria", arguments)
    if getattr(command, "commands", None) and arguments and not arguments[0].startswith("-"):
        command.resolve_command(context, arguments)


def refused(command: str) -> str | None:
    """Why a command is not taken; None where it is, or is only short of its arguments."""
    try:
        parse(shlex.split(command)[1:])
    except typer.TyperException as error:
        said = f"{error} {error.format_message()}"
        return None if any(words in said for words in SHORT) else f"{command}: {said}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_page_are_taken(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for command in blocks(page):
        parse(shlex.split(command)[1:])
    assert [why for command in named(page) if (why := refused(command))] == []


def test_the_pages_show_commands_and_a_wrong_one_is_noticed() -> None:
    assert sum(len(blocks(page)) + len(named(page)) for page in PAGES) > 100
    for wrong in (["datasets", "shew"], ["datasets", "show"], ["ingest", "p", "f", "--color", "red"], ["fly"]):
        with pytest.raises(typer.TyperException):
            parse(wrong)
    assert refused("noria datasets shew")
    assert refused("noria dlq list --color red")


def test_the_tutorial_starts_from_files_that_people_have() -> None:
    commands = blocks(ROOT / "docs" / "tutorial.md")
    first = [command.split()[-1] for command in commands if command.startswith("noria ingest ")][:2]
    assert first == ["docs/examples/shapes/sharegpt.json", "docs/examples/shapes/openai.jsonl"]
    assert all((ROOT / path).is_file() for path in first)
