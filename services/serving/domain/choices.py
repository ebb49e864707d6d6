"""Several choices of one request: each is generated, and recorded, as a request of its own."""

from dataclasses import replace

from services.serving.domain.asked import Asked


def parts(asked: Asked) -> list[Asked]:
    """A request of several choices as requests of one, in the order of their indices; each draws by a seed of its own."""
    prompts = asked.prompts or ("",)
    found: list[Asked] = []
    for i in range(len(prompts) * asked.n):
        prompt, turn = prompts[i // asked.n], i % asked.n
        seed = None if asked.seed is None else (asked.seed + turn + 2**63) % 2**64 - 2**63
        text, ids = ("", prompt) if isinstance(prompt, tuple) else (prompt, ())
        one = replace(asked, index=i, seed=seed, again=turn > 0)
        found.append(replace(one, prompt=text, token_ids=ids) if asked.prompts else one)
    return found
