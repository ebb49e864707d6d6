"""Which tokens may come next in an answer that has to follow a grammar; llguidance computes them, a step at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from services.lm.tokens import TextTokenizer
from services.serving.triton.grammars import reason


class ConstraintBroken(RuntimeError):
    """No token continues the answer, or the grammar takes too much work at this place."""


def blamed(error: Exception) -> str:
    """Whose fault it is that no token could be chosen: an "invalid request" fails at each try, so its client must hear so."""
    return "invalid request: structured_outputs" if isinstance(error, ConstraintBroken) else "the engine failed"


@dataclass(slots=True)
class Constraint:
    """One answer's way through its grammar."""

    matcher: Any

    @property
    def complete(self) -> bool:
        """Whether nothing can follow but the end."""
        return bool(self.matcher.is_stopped()) and not self.matcher.is_error()

    def restrict(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (vocabulary) with minus infinity for every token that may not come next.

        Raises:
            ConstraintBroken: there is none that may.
        """
        bits = np.unpackbits(np.frombuffer(self.matcher.compute_bitmask(), np.uint8), bitorder="little")
        allowed = torch.from_numpy(bits[: len(logits)].astype(bool)).to(logits.device)
        if self.matcher.is_error() or not bool(allowed.any()):
            raise ConstraintBroken(
                f"the grammar cannot be followed: {reason(self.matcher.get_error()) or 'no token fits'}"
            )
        return logits.masked_fill(~allowed, -torch.inf)

    def take(self, token: int) -> None:
        """Goes on by a token that was allowed.

        Raises:
            ConstraintBroken: it was not, or it is too much work.
        """
        if not self.matcher.consume_token(token):
            raise ConstraintBroken(f"the grammar cannot be followed: {reason(self.matcher.get_error())}")


@dataclass(slots=True)
class Constrainer:
    """Makes constraints for a base's tokens; its own tables are made with the first one."""

    text: TextTokenizer
    vocabulary: int
    ends: Sequence[int]
    tokenizer: Any = field(default=None)

    def constraint(self, grammar: str) -> Constraint:
        """Raises ConstraintBroken, naming what is wrong: the tokenizer or the grammar."""
        from llguidance import LLMatcher

        if self.tokenizer is None:
            self.tokenizer = self._tokenizer()
        matcher = LLMatcher(self.tokenizer, grammar, log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()  # what no answer fits shows at the first token, and here no other row waits for it
        if matcher.is_error():
            raise ConstraintBroken(f"the grammar cannot be followed: {reason(matcher.get_error())}")
        return Constraint(matcher)

    def _tokenizer(self) -> Any:
        from llguidance import LLTokenizer

        backend = getattr(self.text.backend, "backend_tokenizer", None)
        if backend is None:
            raise ConstraintBroken(
                "the base's tokenizer is none of the tokenizers library: no answer can be constrained"
            )
        size = max(self.vocabulary, len(self.text.backend))
        return LLTokenizer(backend.to_str(), n_vocab=size, eos_token=list(self.ends))
