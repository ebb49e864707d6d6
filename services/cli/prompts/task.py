"""What a search asks and how it scores: rows of a dataset under a prompt, and a metric of the project's suite. Asks nobody."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from contracts.chat import as_sent, completion_text, conversation, prompt_turns, unfit
from contracts.project import ProjectSpec
from contracts.prompt import Prompt
from contracts.records import PlainText, Record, kind
from services.cli.errors import Usage
from services.cli.prompts.asking import Answer
from services.cli.prompts.sampling import record_of
from services.lm.errors import PromptInvalid, TextRefused
from services.lm.prompt_template import check_prompt, record_prompt
from services.lm.scoring.metrics import ON_ANSWERS


@dataclass(frozen=True, slots=True)
class Task:
    """A row that is asked: the record, its tags, and what should be answered."""

    record: Record
    tags: Mapping[str, str]
    reference: str

    @property
    def question(self) -> str:
        """The turns before the answer, in words."""
        turns = prompt_turns(self.record)
        return turns[0].content if len(turns) == 1 else "\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def tasks(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Task], Counter[str]]:
    """The rows that have an answer in words, and how many do not, by reason."""
    found: list[Task] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        record = record_of(row)
        if isinstance(record, PlainText):
            left_out["plain_text"] += 1
        elif record.tools or kind(record) == "tools":
            left_out["tools"] += 1
        elif reason := unfit(record):
            left_out[reason] += 1
        else:
            found.append(Task(record, row.get("tags") or {}, completion_text(record)))
    return found, left_out


def metric_of(spec: ProjectSpec) -> str:
    """The metric that a search improves: the first that the gate asks of an answer, else the suite's first of answers.

    Raises:
        Usage: the suite has none; the loss cannot be asked of a gateway.
    """
    wanted = [rule.split()[0].rstrip("<>=") for rule in spec.gate.require]
    found = next((name for name in (*wanted, *spec.evaluate.suite) if name in ON_ANSWERS), None)
    if found is None:
        raise Usage(
            "no_metric", f"evaluate.suite of {spec.project} measures no answers; add one of {', '.join(ON_ANSWERS)}"
        )
    return found


def with_text(prompt: Prompt, text: str) -> Prompt:
    """The prompt with another system prompt.

    Raises:
        ValueError: it would be refused when the project is applied; the message says why.
    """
    if not text.strip():
        raise ValueError("the instruction is empty")
    try:
        changed = Prompt.model_validate(prompt.model_dump() | {"system": text})
        check_prompt(changed)
    except ValidationError as error:
        raise ValueError(
            "; ".join(one["msg"] for one in error.errors(include_url=False, include_input=False))
        ) from error
    except PromptInvalid as error:
        raise ValueError(str(error)) from error
    return changed


def messages(prompt: Prompt, task: Task) -> list[dict[str, Any]]:
    """What the gateway is sent; under no system prompt the bare turns, before which it puts the served one.

    Raises:
        ValueError: a variable has neither a tag of the row nor a default.
    """
    if prompt.system is None:
        return [as_sent(turn) for turn in prompt_turns(task.record)]
    try:
        return conversation(record_prompt(prompt, task.record, task.tags), task.record)[0]
    except TextRefused as error:
        raise ValueError(str(error)) from error


def score(metric: str, task: Task, answer: Answer) -> float:
    """The metric of an answer, 0 to 1; 0 where there is none."""
    return 0.0 if answer.error else ON_ANSWERS[metric](answer.text, task.reference) / 100


def feedback(metric: str, task: Task, answer: Answer, reached: float) -> str:
    """What a reader of the answer learns from it."""
    if answer.error:
        return f"There was no answer: {answer.error}"
    cut = " The answer was too long and was cut off." if answer.finish_reason == "length" else ""
    return f"{metric} is {100 * reached:.0f} of 100.{cut} The right answer is: {task.reference}"
