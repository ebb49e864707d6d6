"""Searches a better system prompt with GEPA (https://arxiv.org/abs/2507.19457; PyPI `gepa`).

A model reads answers of the training side with what is right of them and writes a new instruction; one that does better there is
measured on the validation side. Held-out rows take no part. All calls go through the ledger, which is the budget.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from contracts.prompt import Prompt
from services.cli.errors import ConsoleError
from services.cli.prompts.asking import Answer, Endpoint
from services.cli.prompts.ledger import BudgetSpent, Ledger
from services.cli.prompts.task import Task, feedback, messages, score, with_text

MINIBATCH = 4
"""Rows that a reflection looks at, and that a new instruction is tried on first."""
IDLE = 10
"""Turns in a row without a new call after which the search ends: everything is right, or was asked before."""
REFUSALS = 3
"""Reflections that the model may refuse, as too long for it say, until the search ends."""
SYSTEM = "system"
KEEP = """

The instruction is a template of Jinja. Each of these has to stand in the new instruction too, and no other {{{{ }}}}: {names}"""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who answers: the tasks' model at the gateway, and the one that reflects, each with the parameters of its requests."""

    endpoint: Endpoint
    request: Mapping[str, Any]
    reflect_endpoint: Endpoint
    reflect_request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """An instruction with its scores, 0 to 1, on each validation row."""

    text: str
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean score."""
        return sum(self.scores) / len(self.scores)


@dataclass(slots=True)
class Found:
    """What a search has come to: the present instruction, the best, how many were tried, and why it ended."""

    before: Measured | None = None
    best: Measured | None = None
    tried: int = 0
    measured: int = 0
    refused: list[str] = field(default_factory=list[str])
    ended: str = "running"


@dataclass(frozen=True, slots=True)
class Trace:
    """A task with its answer, or why it was not even asked."""

    task: Task
    answer: Answer
    reached: float


class Program:
    """GEPA's view of a prompt: an instruction is answered with on rows, and its answers become feedback."""

    propose_new_texts: Any = None
    """GEPA's own way of writing an instruction is taken."""

    def __init__(self, prompt: Prompt, metric: str, asked: Asked, ledger: Ledger) -> None:
        self.prompt = prompt
        self.metric = metric
        self.asked = asked
        self.ledger = ledger

    def evaluate(self, batch: list[Task], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        """GEPA's EvaluationBatch of an instruction on rows. Raises BudgetSpent, ConsoleError."""
        from gepa.core.adapter import EvaluationBatch

        answers = self.answers(batch, candidate[SYSTEM])
        scores = [score(self.metric, task, answer) for task, answer in zip(batch, answers, strict=True)]
        traces = [Trace(*each) for each in zip(batch, answers, scores, strict=True)]
        return EvaluationBatch(outputs=answers, scores=scores, trajectories=traces if capture_traces else None)

    def answers(self, batch: Sequence[Task], text: str) -> list[Answer]:
        """The answers under an instruction; one that no project could have is not asked."""
        try:
            prompt = self.prompt if text == (self.prompt.system or "") else with_text(self.prompt, text)
            bodies = [{**self.asked.request, "messages": messages(prompt, task)} for task in batch]
        except ValueError as error:
            return [Answer("", 0.0, error=f"the instruction cannot be used: {error}")] * len(batch)
        return self.ledger.ask(self.asked.endpoint, bodies)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> dict[str, list[dict[str, str]]]:
        """What the reflecting model reads of each row."""
        traces: list[Trace] = eval_batch.trajectories
        rows = [
            {
                "Inputs": trace.task.question,
                "Generated Outputs": trace.answer.text,
                "Feedback": feedback(self.metric, trace.task, trace.answer, trace.reached),
            }
            for trace in traces
        ]
        return dict.fromkeys(components_to_update, rows)

    def reflect(self, prompt: Any, found: Found) -> str:
        """The reflecting model's answer; nothing where it refuses to read so much. Raises BudgetSpent, ConsoleError."""
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        answer = self.ledger.ask_anew(self.asked.reflect_endpoint, {**self.asked.reflect_request, "messages": turns})
        if answer.error:
            found.refused.append(answer.error)
            if len(found.refused) >= REFUSALS:
                raise ConsoleError("reflection_refused", f"the reflecting model refuses: {answer.error}")
        return answer.text


class Watch:
    """GEPA's callbacks and its stop condition: keeps the best so far, ends in time for a whole turn, and what fails."""

    def __init__(self, found: Found, ledger: Ledger, validation: int, tell: Callable[[Found], None]) -> None:
        self.found = found
        self.ledger = ledger
        self.turn = 2 * MINIBATCH + 1 + validation
        self.tell = tell
        self.fault: Exception | None = None
        self._used = -1
        self._idle = 0

    def __call__(self, gepa_state: Any) -> bool:
        """Whether the search ends now."""
        self._idle = self._idle + 1 if self.ledger.used == self._used else 0
        self._used = self.ledger.used
        if self.ledger.left < self.turn:
            self.found.ended = "budget"
        elif self._idle >= IDLE:
            self.found.ended = "nothing new to ask"
        return self.fault is not None or self.found.ended != "running"

    def on_valset_evaluated(self, event: Any) -> None:
        """An instruction was measured on the validation side."""
        scores: Mapping[int, float] = event["scores_by_val_id"]
        one = Measured(event["candidate"][SYSTEM], tuple(scores[key] for key in sorted(scores)))
        self.found.measured += 1
        self.found.before = self.found.before or one
        if self.found.best is None or one.mean > self.found.best.mean:
            self.found.best = one
        self.tell(self.found)

    def on_proposal_end(self, event: Any) -> None:
        """A new instruction was written."""
        self.found.tried += 1
        self.tell(self.found)


def search(
    program: Program, train: Sequence[Task], validation: Sequence[Task], seed: int, tell: Callable[[Found], None]
) -> Found:
    """The best system prompt that the ledger's budget found; the present one is the first candidate.

    The same ledger, tasks and seed give the same search again, so that one that was stopped goes on. Ctrl-C ends it with what it
    has.

    Raises:
        ConsoleError: before the present prompt was measured, a model refused or did not answer; later this is told in `ended`.
    """
    from gepa.api import optimize

    found = Found()
    watch = Watch(found, program.ledger, len(validation), tell)

    def reflect(prompt: Any) -> str:
        """GEPA logs what a reflection raises, asks again and goes on; here that is the end."""
        if watch.fault:
            raise watch.fault
        try:
            return program.reflect(prompt, found)
        except (BudgetSpent, ConsoleError) as error:
            watch.fault = error
            raise

    try:
        optimize(
            seed_candidate={SYSTEM: program.prompt.system or ""},
            trainset=list(train),
            valset=list(validation),
            adapter=program,
            reflection_lm=reflect,
            reflection_prompt_template=template(program.prompt),
            reflection_minibatch_size=min(MINIBATCH, len(train)),
            stop_callbacks=cast(Any, [watch]),  # GEPA asks of each what it has
            callbacks=cast(Any, [watch]),  # GEPA asks of each what it has
            logger=_Silent(),
            seed=seed,
        )
        if watch.fault:
            raise watch.fault
    except BudgetSpent:
        found.ended = "budget"
    except KeyboardInterrupt:
        found.ended = "interrupted"
    except ConsoleError as error:
        if found.before is None:
            raise
        found.ended = error.message
    return found


def template(prompt: Prompt) -> str | None:
    """GEPA's own text for the reflecting model, with the variables that the instruction has to keep."""
    if not prompt.variables:
        return None
    from gepa.strategies.instruction_proposal import InstructionProposalSignature

    names = ", ".join(f"{{{{ {name} }}}}" for name in prompt.variables)
    return InstructionProposalSignature.default_prompt_template + KEEP.format(names=names)


def shuffled(tasks: Sequence[Task], most: int, seed: int) -> list[Task]:
    """Up to `most` of the tasks, drawn by the seed."""
    return random.Random(seed).sample(list(tasks), min(most, len(tasks)))  # noqa: S311 - no secret


class _Silent:
    def log(self, message: str) -> None:
        """GEPA's log is for its makers; what counts is told by the watch."""
