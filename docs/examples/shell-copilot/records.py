"""Prints the example's records as JSON lines: "tool: what I want" -> shell command, from the package eg 1.2.3 (MIT).

    python docs/examples/shell-copilot/records.py > records.jsonl

The rule: in `examples/<tool>.md` a paragraph of text followed by an indented block is a pair, where the block is one command
(or holds exactly one `$ ` line), has at most 120 characters and names the tool; of a long description the last sentence is kept.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXAMPLES = Path(os.environ.get("NORIA_CACHE", "~/.cache/noria")).expanduser() / "data" / "eg-1.2.3" / "examples"
LONGEST_COMMAND = 120
LONGEST_DESCRIPTION = 120


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """(paragraph, lines of the indented block that follows it)."""
    paragraph: list[str] = []
    indented: list[str] = []
    for line in [*text.splitlines(), "end"]:
        if line.startswith("    "):
            indented.append(line[4:])
        elif not line.strip():
            if paragraph and not indented and paragraph[-1]:
                paragraph.append("")
        else:
            if indented:
                yield _last_paragraph(paragraph), indented
                paragraph, indented = [], []
            paragraph.append("" if line.startswith("#") else line.strip())


def _last_paragraph(lines: list[str]) -> str:
    return "\n".join(lines).strip().rsplit("\n\n", 1)[-1].replace("\n", " ").strip()


def command_of(block: list[str]) -> str | None:
    """The one command of a block, or None."""
    lines = [line.strip() for line in block if line.strip()]
    prompts = [line[2:].strip() for line in lines if line.startswith("$ ")]
    if prompts:
        return prompts[0] if len(prompts) == 1 else None
    return lines[0] if len(lines) == 1 else None


def description_of(paragraph: str) -> str:
    """The paragraph without its colon; the last sentence where it is long."""
    text = paragraph.rstrip(":").strip()
    if len(text) > LONGEST_DESCRIPTION:
        text = re.split(r"(?<=[.!?])\s+", text)[-1].strip()
    return text


def pairs(tool: str, text: str) -> Iterator[tuple[str, str]]:
    """(description, command) of one tool's page."""
    for paragraph, block in blocks(text):
        command, description = command_of(block), description_of(paragraph)
        if command is None or not description or len(command) > LONGEST_COMMAND:
            continue
        if re.search(rf"(?<![\w-]){re.escape(tool)}(?![\w])", command):
            yield description, command


def records(folder: Path = EXAMPLES) -> Iterator[dict[str, Any]]:
    """The records in the order of the pages."""
    number = 0
    for page in sorted(folder.glob("*.md")):
        tool = page.stem
        for description, command in pairs(tool, page.read_text(encoding="utf-8")):
            turns = [
                {"role": "user", "content": f"{tool}: {description}"},
                {"role": "assistant", "content": command},
            ]
            yield {"record_id": f"eg-{number:05d}", "tags": {"tool": tool}, "record": {"messages": turns}}
            number += 1


def main() -> None:
    """Prints every record on a line of its own."""
    if not EXAMPLES.is_dir():
        sys.exit(f"no examples under {EXAMPLES}; run: scripts/setup --assets")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
    for record in records():
        print(json.dumps(record, ensure_ascii=False))


if __name__ == "__main__":
    main()
