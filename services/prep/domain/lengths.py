"""Drops rows that are empty, too short or too long by the project's rules."""

from contracts.project import Prep
from services.prep.domain.rows import Drop, Row


def verdict(row: Row, prep: Prep) -> str | None:
    """Why the row is left out, or None. White space around a completion does not count towards `min_chars`.

    Of a prompt without a completion it is the prompt that counts.
    """
    said = len((row.prompt if row.kind == "prompt_only" else row.completion).strip())
    if not said:
        return "empty"
    if said < prep.min_chars:
        return "too_short"
    return "too_long" if characters(row) > prep.max_chars else None


def characters(row: Row) -> int:
    """Characters of prompt and completion as they were sent."""
    return len(row.prompt) + len(row.completion)


def partition(rows: list[Row], prep: Prep) -> tuple[list[Row], list[Drop]]:
    """The rows that pass, and the others with the reasons `empty`, `too_short`, `too_long`."""
    verdicts = [(row, verdict(row, prep)) for row in rows]
    return [row for row, why in verdicts if why is None], [Drop(row.record_id, why) for row, why in verdicts if why]
