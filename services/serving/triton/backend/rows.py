"""One request's way through the engine: what was asked, the row it becomes, and what each token adds to its text."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from services.lm.adapters import Adapter
from services.serving.triton.backend.constraints import Constraint
from services.serving.triton.backend.detokenizer import Detokenizer, scan
from services.serving.triton.backend.kv_cache import Prompt
from services.serving.triton.backend.sampler import Sampler, Score, generator, score_all
from services.serving.triton.backend.sampling_parameters import Sampling


@dataclass(frozen=True, slots=True)
class Delta:
    """What one step added to an answer; the last has a finish_reason (stop, length, cancelled) or an error."""

    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None
    error: str | None = None
    logprobs: tuple[dict[int, Any], ...] = ()  # of its tokens, as vLLM has them, where they are wanted
    prompt_logprobs: tuple[dict[int, Any], ...] = ()  # of all of the prompt's, with the first delta


class Listener(Protocol):
    """Who asked: both are called from the engine's thread and must return at once."""

    cancelled: bool

    def emit(self, delta: Delta) -> None:
        """Takes the next piece of the answer."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt in tokens and what is wanted of it."""

    prompt: list[int]
    sampling: Sampling
    adapter: Adapter | None
    listener: Listener
    lead: str = ""  # blanks that the chat template writes before an answer: no part of its text
    constraint: Constraint | None = None  # of this answer alone
    made: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Row:
    """A request that runs: its newest token is not yet in its slot, which holds `length` tokens."""

    request: Request
    chooser: Sampler
    text: Detokenizer
    ends: frozenset[int]
    max_tokens: int
    length: int
    lead: str = ""  # not yet met
    held: str = ""  # text that may become a stop string
    owed: int = 0  # tokens not yet reported
    prompt_scores: dict[int, Score] = field(default_factory=dict[int, Score])  # by place, not yet told
    done: bool = field(default=False)

    @property
    def scored(self) -> Callable[[int, torch.Tensor], None] | None:
        """Who takes the logits of the prompt's tokens, if anybody."""
        return None if self.request.sampling.prompt_logprobs is None else self._score

    def _score(self, start: int, logits: torch.Tensor) -> None:
        """Takes logits (tokens, vocabulary) after the prompt's tokens from `start` on."""
        following = self.request.prompt[start + 1 : start + 1 + len(logits)]
        count = self.request.sampling.prompt_logprobs or 0
        if following:
            found = score_all(logits[: len(following)], following, count)
            self.prompt_scores.update(enumerate(found, start + 1))

    @property
    def most(self) -> int:
        """Tokens that it may come to have."""
        return len(self.request.prompt) + self.max_tokens


@dataclass(slots=True)
class Reading:
    """A row whose prompt is being read: it has no slot yet."""

    row: Row
    prompt: Prompt

    @property
    def rest(self) -> int:
        """Tokens that are still to be read."""
        return self.prompt.length - self.prompt.read


@dataclass(slots=True)
class Tokens:
    """What the engine needs of a tokenizer."""

    decode: Callable[[Sequence[int], bool], str]  # (tokens, skip special ones)
    ends: tuple[int, ...]


def new_row(request: Request, tokens: Tokens, context: int, device: torch.device) -> Row:
    """Returns the row that a request becomes in a model of `context` tokens on `device`."""
    sampling = request.sampling
    ends = (*(() if sampling.ignore_eos and request.constraint is None else tokens.ends), *sampling.stop_token_ids)
    room = context - len(request.prompt)
    return Row(
        request=request,
        chooser=Sampler(
            sampling, request.prompt, [], tuple({*tokens.ends, *ends}), generator(sampling, device), request.constraint
        ),
        text=Detokenizer(lambda ids: tokens.decode(ids, sampling.skip_special_tokens), list(request.prompt)),
        ends=frozenset(ends),
        max_tokens=min(room, sampling.max_tokens or room),
        length=len(request.prompt),
        lead=request.lead,
    )


def advance(row: Row, token: int) -> None:
    """Takes the next token into the row's text; emits what is certain, and the end when it has come."""
    row.chooser.output.append(token)
    row.owed += 1
    enough = len(row.chooser.output) >= row.request.sampling.min_tokens
    ended = token in row.ends and enough
    if ended:
        row.chooser.scores = row.chooser.scores[:-1]  # the end is no part of the text
    complete = row.request.constraint is not None and row.request.constraint.complete
    full = len(row.chooser.output) >= row.max_tokens
    news = "" if ended else row.text.push(token)
    if ended or full or complete:
        news += row.text.flush()
    if news:
        news, row.lead = news.removeprefix(row.lead), ""
    shown, row.held, stop = scan(row.held + news, row.request.sampling.stop if enough else ())
    if stop is not None:
        shown += stop if row.request.sampling.include_stop_str_in_output else ""
        finish(row, "stop", shown)
    elif ended or full or complete:
        finish(row, "stop" if ended or complete else "length", shown + row.held)
    elif shown:
        row.request.listener.emit(Delta(shown, row.owed, None, None, _told(row), _prompt_told(row)))
        row.owed = 0


def finish(row: Row, reason: str, text: str = "") -> None:
    """Ends a row with its last text."""
    row.done = True
    row.request.listener.emit(Delta(text, row.owed, reason, None, _told(row), _prompt_told(row)))


def _told(row: Row) -> tuple[dict[int, Any], ...]:
    """What the scores since the last time say, token by token: the chosen one first."""
    scores, row.chooser.scores = row.chooser.scores, []
    return tuple(_shown(score, row.text.decode) for score in scores)


def _prompt_told(row: Row) -> tuple[dict[int, Any], ...]:
    """Of the whole prompt, once. Nothing comes before its first token: it has no probability."""
    if not row.prompt_scores:
        return ()
    scores, row.prompt_scores = row.prompt_scores, {}
    prompt = row.request.prompt
    first = {prompt[0]: {"logprob": None, "rank": 0, "decoded_token": row.text.decode(prompt[:1])}}
    return (first, *(_shown(scores[i], row.text.decode) for i in range(1, len(prompt))))


def _shown(score: Score, decode: Callable[[Sequence[int]], str]) -> dict[int, Any]:
    ranked = [(score.token, score.logprob, score.rank)]
    ranked += [(token, logprob, i + 1) for i, (token, logprob) in enumerate(score.likeliest) if token != score.token]
    return {t: {"logprob": logprob, "rank": rank, "decoded_token": decode([t])} for t, logprob, rank in ranked}


def fail(row: Row, message: str) -> None:
    """Ends a row with an error."""
    row.done = True
    row.request.listener.emit(Delta(error=message))
