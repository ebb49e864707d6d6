"""Chooses the next token of each row from its logits; it knows neither the model nor the text.

Nucleus sampling follows Holtzman et al. 2020 (arXiv:1904.09751); the penalties are those of OpenAI's API (presence,
frequency) and of CTRL (repetition, arXiv:1909.05858), counted as vLLM counts them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from services.serving.triton.backend.constraints import Constraint
from services.serving.triton.backend.sampling_parameters import Sampling

HEAD = 256  # candidates looked at before all of them are sorted: the nucleus nearly always lies within


@dataclass(frozen=True, slots=True)
class Score:
    """Natural logarithms of a token's probability and of the likeliest ones', and its rank among all (1: likeliest)."""

    token: int
    logprob: float
    rank: int
    likeliest: tuple[tuple[int, float], ...]


@dataclass(slots=True)
class Sampler:
    """What choosing for one row needs: its wishes, its own generator and the tokens so far."""

    sampling: Sampling
    prompt: list[int]
    output: list[int]
    ends: tuple[int, ...]  # tokens that end the text, forbidden before min_tokens
    generator: torch.Generator | None
    constraint: Constraint | None = None
    scores: list[Score] = field(default_factory=list[Score])  # of the tokens so far, where they are wanted

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is the choice."""
        asked = self.sampling.logit_bias or self.sampling.logprobs is not None
        free = self.constraint is None and not self.sampling.penalised and not asked
        return free and self.sampling.greedy and len(self.output) >= self.sampling.min_tokens


def generator(sampling: Sampling, device: torch.device) -> torch.Generator | None:
    """Returns the row's own source of chance, so that its draws depend on its seed alone and not on its neighbours."""
    if sampling.greedy:
        return None
    made = torch.Generator(device)
    if sampling.seed is None:
        made.seed()
    else:
        made.manual_seed(sampling.seed)
    return made


def choose(logits: torch.Tensor, rows: Sequence[Sampler]) -> list[int]:
    """Returns one token for each row of logits (rows, vocabulary)."""
    best: list[int] = logits.argmax(-1).tolist()
    return [token if row.plain else _choose_one(line, row) for token, line, row in zip(best, logits, rows, strict=True)]


def _choose_one(logits: torch.Tensor, row: Sampler) -> int:
    sampling, raw = row.sampling, logits.float()
    logits = penalise(raw, row)
    if row.constraint is not None:
        logits = row.constraint.restrict(logits)
    if len(row.output) < sampling.min_tokens:
        logits = _later(logits, row.ends)
    token = _drawn(logits, row)
    if row.constraint is not None and token not in row.ends:
        row.constraint.take(token)
    if sampling.logprobs is not None:
        row.scores.append(score_all(raw[None], [token], sampling.logprobs)[0])
    return token


def _later(logits: torch.Tensor, ends: Sequence[int]) -> torch.Tensor:
    """Without the tokens that end the text, unless a grammar allows no others."""
    later = logits.clone()
    later[list(ends)] = -torch.inf
    return later if bool(later.max() > -torch.inf) else logits


def _drawn(logits: torch.Tensor, row: Sampler) -> int:
    sampling = row.sampling
    if sampling.greedy:
        return int(logits.argmax())
    values, tokens = nucleus(logits / sampling.temperature, sampling)
    drawn = torch.multinomial(values, 1, generator=row.generator)
    return int(tokens[drawn]) if tokens is not None else int(drawn)


def score_all(logits: torch.Tensor, tokens: Sequence[int], count: int) -> list[Score]:
    """How likely the model found tokens after logits (tokens, vocabulary): before penalties and temperature, as vLLM tells it."""
    logprobs = logits.float().log_softmax(-1)
    chosen = logprobs.gather(-1, torch.tensor(tokens, device=logits.device)[:, None])
    ranks: list[int] = ((logprobs > chosen).sum(-1) + 1).tolist()
    values, best = logprobs.topk(min(count, logprobs.shape[-1]))
    told = zip(tokens, chosen[:, 0].tolist(), ranks, best.tolist(), values.tolist(), strict=True)
    return [
        Score(token, logprob, rank, tuple(zip(ids, scores, strict=True))) for token, logprob, rank, ids, scores in told
    ]


def penalise(logits: torch.Tensor, row: Sampler) -> torch.Tensor:
    """Returns a copy of logits (vocabulary) lowered for tokens that were used before, and biased as the request wishes."""
    logits = logits.clone()
    sampling = row.sampling
    if sampling.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*row.prompt, *row.output}), device=logits.device)
        old = logits[seen]
        logits[seen] = torch.where(old > 0, old / sampling.repetition_penalty, old * sampling.repetition_penalty)
    if row.output and (sampling.presence_penalty or sampling.frequency_penalty):
        used, counts = torch.tensor(row.output, device=logits.device).unique(return_counts=True)
        logits[used] -= sampling.presence_penalty + sampling.frequency_penalty * counts
    if sampling.logit_bias:
        tokens, added = zip(*sampling.logit_bias, strict=True)
        logits[list(tokens)] += torch.tensor(added, device=logits.device)
    return logits


def nucleus(logits: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns weights and their tokens (None: weight i is token i) after min_p, top_k and top_p."""
    weights = logits.softmax(-1)
    if sampling.min_p:
        weights = weights.masked_fill(weights < weights.max() * sampling.min_p, 0)
    if sampling.top_k <= 0 and sampling.top_p >= 1:
        return weights, None
    limit = min(sampling.top_k if sampling.top_k > 0 else HEAD, len(weights))
    values, tokens = weights.topk(limit)
    whole = values.sum() if sampling.top_k > 0 else weights.sum()
    if sampling.top_k <= 0 and values.sum() < sampling.top_p * whole:
        values, tokens = weights.sort(descending=True)
    before = values.cumsum(-1) - values
    return values.masked_fill(before >= sampling.top_p * whole, 0), tokens
