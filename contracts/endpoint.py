"""An OpenAI-compatible endpoint of somebody else, as a project file names one. Asks nobody."""

import re
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from contracts.sections import Section

MILLION = 1_000_000


_URL = r"^https?://([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-f:]{2,39}\])(:[1-9][0-9]{0,4})?(/[A-Za-z0-9._~-]{1,100}){0,4}$"


def _address(url: Any) -> Any:
    if not isinstance(url, str):
        return url
    bare = url.rstrip("/")
    if re.match(_URL, bare):
        return bare
    if re.match(r"https?://[^/]*@|https?://.*[?#]", bare):
        raise ValueError("no user, password, query or fragment stands in the URL; a secret is named in 'key'")
    raise ValueError("give the endpoint's URL, as https://api.example.com/v1")


Address = Annotated[str, BeforeValidator(_address), StringConstraints(pattern=_URL)]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


class Price(Section):
    """What the model there costs, in money for a million tokens."""

    prompt: float = Field(ge=0, le=MILLION, description="Money for a million tokens of prompts")
    completion: float = Field(ge=0, le=MILLION, description="Money for a million tokens of answers")
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$", description="ISO 4217")


class Endpoint(Section):
    """Which model is asked where, with which key, and what that may cost. Who asks it adds what else it needs."""

    url: Address = Field(description="What stands before /chat/completions: https://api.example.com/v1")
    model: str = Field(min_length=1, max_length=200, description="The model's name there")
    key: SecretName | None = Field(default=None, description="Name of the secret that holds the endpoint's API key")
    price: Price | None = None
    budget: float | None = Field(
        default=None, ge=0, description="Money a day (UTC), in the price's currency; then it is not asked any more"
    )
    retries: int = Field(
        default=2, ge=0, le=10, description="Further tries of a request, before anything of its answer came"
    )

    @model_validator(mode="after")
    def _budget_has_a_price(self) -> Self:
        if self.budget is not None and self.price is None:
            raise ValueError("a budget needs a price; give price: {prompt: ..., completion: ...} for a million tokens")
        return self

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Money for an answer, in the price's currency; None where there is no price."""
        if self.price is None:
            return None
        return (prompt_tokens * self.price.prompt + completion_tokens * self.price.completion) / MILLION
