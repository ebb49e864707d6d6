"""An object inside a request's body: it holds the names that it has and values of their types. Knows no endpoint."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

UNKNOWN = "unknown_parameter"


def meant(name: str, known: Iterable[str]) -> str:
    """What to say of the known name that a misspelt one is like; empty where none is."""
    near = get_close_matches(name[:100], sorted(known), 1, 0.75)
    return f"; did you mean {near[0]!r}?" if near else ""


class Part(BaseModel):
    """A misspelt name is refused with what may have been meant: left out in silence it would change the answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _knows(cls, value: Any) -> Any:
        known = {field.alias or name for name, field in cls.model_fields.items()}
        given = cast(dict[str, Any], value) if isinstance(value, dict) else {}
        if (name := next((name for name in given if name not in known), None)) is not None:
            raise PydanticCustomError(UNKNOWN, "{meant}", {"name": name[:100], "meant": meant(name, known)})
        return value
