"""Asks base and tuned model the same held-out questions through the OpenAI-compatible gateway, with OpenAI's client."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compose.local import API_KEY
from contracts.types import ArtifactRef
from services.chassis.settings import Settings
from services.chassis.storage.artifacts import open_store
from services.cli import api
from services.cli.demo.board import Board, DemoFailed
from services.cli.output import brief, plain_table

if TYPE_CHECKING:
    from openai import OpenAI
    from rich.table import Table

QUESTIONS = 5
PATIENCE = 120.0
"""Seconds until an answer counts as lost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said: request id, the version that answered, the text."""

    request_id: str
    version: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A held-out question with its reference and both answers; `streamed` is the tuned one's in pieces."""

    question: str
    reference: str
    base: Answer
    tuned: Answer
    streamed: str
    pieces: int


def held_out(project: str, number: int) -> list[tuple[str, str]]:
    """(question, reference) of a dataset's held-out rows, one a tool, in the dataset's order."""
    from pyarrow import parquet

    dataset = api.get("prep", f"/v1/datasets/{project}/{number}")
    ref = ArtifactRef.model_validate(dataset["files"]["held_out"])
    file: Path = open_store(Settings()).get(ref)
    rows = parquet.read_table(file, columns=["record", "tags"]).to_pylist()
    return list(one_a_tool(rows))


def one_a_tool(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(question, reference) of the first single-turn row of each tool."""
    tools: set[str] = set()
    for row in rows:
        turns = json.loads(row["record"]).get("messages", [])
        tool = json.loads(row["tags"]).get("tool")
        if tool and tool not in tools and [t["role"] for t in turns] == ["user", "assistant"]:
            tools.add(tool)
            yield turns[0]["content"], turns[1]["content"]


def ask_all(board: Board, project: str, version: int, questions: list[tuple[str, str]]) -> list[Asked]:
    """Both models' answers to the first questions.

    Raises:
        DemoFailed: another version than the promoted one answered, or the gateway refused.
    """
    from openai import OpenAI, OpenAIError

    client = OpenAI(
        base_url=f"{gateway()}/v1", api_key=os.environ.get(API_KEY) or "none", timeout=PATIENCE, max_retries=0
    )
    found: list[Asked] = []
    with board.stage("questions") as stage:
        for number, (question, reference) in enumerate(questions[:QUESTIONS], 1):
            stage.say(f"{number}/{QUESTIONS}: {question}", number / QUESTIONS)
            try:
                found.append(_ask(client, project, question, reference))
            except OpenAIError as error:
                raise DemoFailed(f"the gateway did not answer {question!r}: {error}") from error
        wrong = [a.tuned.version for a in found if a.tuned.version != str(version)]
        if wrong or not found:
            raise DemoFailed(f"version {version} is deployed, but {wrong or 'nobody'} answered")
        same = sum(a.streamed == a.tuned.text for a in found)
        stage.say(f"{len(found)} asked, base and tuned; {same} of {len(found)} streams equal the whole answers")
    return found


def gateway() -> str:
    """The gateway's address."""
    from services.cli.addresses import settings

    return settings().url("serving")


def _ask(client: "OpenAI", project: str, question: str, reference: str) -> Asked:
    base = whole(client, f"{project}@base", question)
    tuned = whole(client, project, question)
    pieces = list(stream(client, project, question))
    return Asked(question, reference, base, tuned, "".join(pieces), len(pieces))


def whole(client: "OpenAI", model: str, question: str) -> Answer:
    """A model's answer in one piece."""
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0
    )
    body = raw.parse()
    version = raw.headers.get("x-noria-model-version", "")
    return Answer(body.id, version.rsplit("@", 1)[-1], body.choices[0].message.content or "")


def stream(client: "OpenAI", model: str, question: str) -> Iterator[str]:
    """A model's answer piece by piece."""
    chunks = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, stream=True
    )
    for chunk in chunks:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


def table(found: list[Asked]) -> "Table":
    """Questions with reference, base and tuned answers side by side."""
    from rich.markup import escape

    grid = plain_table(("question", "reference", "base", "tuned"))
    for asked in found:
        mark = "[green]" if asked.tuned.text.strip() == asked.reference.strip() else ""
        base, tuned = (brief(answer.text, 120) or "(nothing)" for answer in (asked.base, asked.tuned))
        grid.add_row(escape(asked.question), escape(asked.reference), escape(base), mark + escape(tuned))
    return grid
