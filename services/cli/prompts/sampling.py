"""Rows of one side of a dataset, sampled by a seed. Takes them from prep, and looks at no other side.

Rows lie in the order of their digests, which say nothing of what is in them: those behind one drawn by the seed are a sample.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal

from contracts.chat import completion_turn, prompt_turns
from contracts.records import PlainText, Record, parse_record
from services.cli import api
from services.cli.errors import ConsoleError, Usage
from services.cli.prompts.picking import Shown

Side = Literal["train", "validation"]
"""Never the held-out one: candidates are judged on it."""


def newest(project: str) -> int:
    """The number of a project's newest dataset. Raises Usage where there is none, Refused, Unreachable."""
    found = api.items("prep", "/v1/datasets", 1, project=project)["items"]
    if not found:
        raise Usage("no_dataset", f"{project} has no dataset yet; `noria datasets freeze {project}` freezes one")
    return int(found[0]["number"])


def sample(project: str, number: int, side: Side, count: int, seed: int) -> list[dict[str, Any]]:
    """Up to `count` rows of a side, {"record_id", "record", ...}: the same for the same seed.

    Raises:
        ConsoleError: prep gave a row of another side.
        Refused, Unreachable: prep refuses or is away.
    """
    path, start = f"/v1/datasets/{project}/{number}/rows", sha256(str(seed).encode()).hexdigest()
    wanted = {"split": side, "fields": "record_id,record,digest,tags"}
    found = api.items("prep", path, count, where=[f"digest >= {start}"], **wanted)["items"]
    if len(found) < count:
        found += api.items("prep", path, count - len(found), where=[f"digest < {start}"], **wanted)["items"]
    if other := next((row for row in found if row["split"] != side), None):
        raise ConsoleError(
            "wrong_side", f"prep gave a row of {other['split']!r} where {side!r} was asked; nothing is used"
        )
    return found


def exchange(row: Mapping[str, Any], longest: int) -> Shown | None:
    """A row as one question and its answer; None where it is more, less, calls tools or has over `longest` characters."""
    record = record_of(row)
    if isinstance(record, PlainText) or record.tools:
        return None
    asked, answer = prompt_turns(record), completion_turn(record)
    if len(asked) != 1 or asked[0].role != "user" or answer is None or answer.tool_calls:
        return None
    user, assistant = asked[0].content.strip(), answer.content.strip()
    fits = user and assistant and len(user) + len(assistant) <= longest
    return Shown(str(row["record_id"]), user, assistant) if fits else None


def record_of(row: Mapping[str, Any]) -> Record:
    """The typed record of a row."""
    return parse_record(row["record"])[1]
