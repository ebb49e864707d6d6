"""What a search asked and was answered, on disk, and its budget of calls. Knows no optimiser.

A call is written down before it is sent and again when it is answered, so that a search that was stopped goes on by being run
again: what was answered is not asked twice, and no crash hides a call. The file is JSON lines: {"asked": key} and
{"answered": key, ...}.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from contracts.canonical import canonical, digest
from services.cli.errors import ConsoleError
from services.cli.prompts.asking import AT_ONCE, Answer, Endpoint, ask_all

KEPT = 20
"""Ledgers of other searches that stay, the newest."""


class BudgetSpent(Exception):
    """What was to be asked is more than the budget leaves; none of it was asked."""


class Ledger:
    """The calls of a search. `used` are those that this run needed, whether asked now or before, and those that were lost."""

    def __init__(self, file: Path, budget: int, at_once: int = AT_ONCE) -> None:
        self.file = file
        self.budget = budget
        self.at_once = at_once
        self._answers: dict[str, Answer] = {}
        self._asked = 0
        self._seen: set[str] = set()
        self._repeats: Counter[str] = Counter()
        for line in _lines(file):
            if "asked" in line:
                self._asked += 1
            else:
                key = line.pop("answered")
                self._answers[key] = Answer(**line)
        self._lost = self._asked - len(self._answers)

    @property
    def used(self) -> int:
        """Calls that count."""
        return len(self._seen) + self._lost

    @property
    def left(self) -> int:
        """Calls that may still be made."""
        return self.budget - self.used

    def ask(self, endpoint: Endpoint, bodies: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """The answers to chats: those known from before, and new ones. The same chat is one call.

        Raises:
            BudgetSpent: they are more than is left.
            ConsoleError: as `ask_all`, and where the endpoint has no room for too long.
        """
        keys = [digest(canonical({"url": endpoint.url, "body": dict(body)})) for body in bodies]
        return self._answered(endpoint, dict(zip(keys, bodies, strict=True)), keys)

    def ask_anew(self, endpoint: Endpoint, body: Mapping[str, Any]) -> Answer:
        """The answer to a chat that is drawn by chance: the same chat a second time is a second call. Raises as `ask`."""
        key = digest(canonical({"url": endpoint.url, "body": dict(body)}))
        self._repeats[key] += 1
        return self._answered(endpoint, {f"{key}#{self._repeats[key]}": body}, [f"{key}#{self._repeats[key]}"])[0]

    def _answered(
        self, endpoint: Endpoint, wanted: Mapping[str, Mapping[str, Any]], keys: Sequence[str]
    ) -> list[Answer]:
        new = [key for key in wanted if key not in self._answers]
        if len(self._seen | wanted.keys()) + self._lost > self.budget or self._asked + len(new) > self.budget:
            raise BudgetSpent
        self._seen |= wanted.keys()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as out:

            def write(line: Mapping[str, Any]) -> None:
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                out.flush()

            def begins(index: int) -> None:
                self._asked += 1
                write({"asked": new[index]})

            def done(index: int, answer: Answer) -> None:
                if answer.no_room:
                    raise ConsoleError("no_room", f"{endpoint.name} had no room for a question; {answer.error}")
                write({"answered": new[index], **asdict(answer)})
                self._answers[new[index]] = answer

            ask_all(endpoint, [wanted[key] for key in new], done, self.at_once, begins)
        return [self._answers[key] for key in keys]


def keep_newest(folder: Path, kept: int = KEPT) -> None:
    """Delete the ledgers of a folder but the newest."""
    files = sorted(folder.glob("*.jsonl"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[kept:]:
        file.unlink(missing_ok=True)


def _lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a ledger; the last one may have been cut by a crash, then it is not there."""
    if not file.exists():
        return []
    text = file.read_text("utf-8")
    whole, _, cut = text.rpartition("\n")
    if cut:
        file.write_text(f"{whole}\n" if whole else "", "utf-8")
    return [json.loads(line) for line in whole.splitlines() if line]
