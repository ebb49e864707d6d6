"""What an answer must look like, as llguidance's grammar: read from vLLM's `structured_outputs`. Knows no tokenizer.

The gateway asks here before anything runs, the bundled backend when it begins a request: both by the same limits.
Sources: https://docs.vllm.ai/en/latest/features/structured_outputs.html,
https://github.com/guidance-ai/llguidance (docs/json_schema.md, docs/syntax.md).
"""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

MAX_CHARACTERS = 65_536
"""Of a schema, regular expression or grammar. llguidance counts the work on one and gives up; this bounds what it reads."""
MAX_CHOICES = 1_000
MAX_DEPTH = 64
KINDS = ("json", "json_object", "regex", "choice", "grammar")
WHITESPACE = r"\n?[ \t]{0,40}"
"""Between the parts of a JSON text: enough to indent, not so much that an answer could be blanks for ever."""


class GrammarRefused(ValueError):
    """What was asked cannot be enforced; the message says why."""


def grammar(wanted: Mapping[str, Any]) -> str:
    """The grammar of an object that has one of KINDS.

    Raises:
        GrammarRefused: it has none or several, is too long, or llguidance does not know what it says.
    """
    kinds = [kind for kind in KINDS if wanted.get(kind) not in (None, False)]
    if len(kinds) != 1 or set(wanted) - set(KINDS):
        raise GrammarRefused(f"give one of {', '.join(KINDS)}")
    (kind,) = kinds
    _check_size(wanted[kind])
    try:
        made = _written(kind, wanted[kind])
    except (ValueError, RecursionError) as error:
        raise GrammarRefused(f"the {kind} cannot be enforced: {error}"[:1000]) from None
    from llguidance import LLMatcher

    if said := LLMatcher.validate_grammar(made):
        raise GrammarRefused(f"the {kind} cannot be enforced: {reason(said)}")
    return made


def reason(said: str) -> str:
    """What llguidance says of a fault, without its own state and the grammar, which it tells too."""
    brief = re.split(r"\n?<(?:state|grammar)>", said)[0].strip()[:900]
    return "no answer fits it" if brief.startswith("NoExtension") else brief


def _written(kind: str, value: Any) -> str:
    # Imported by who needs it: a Triton without the package answers all requests that want nothing of it.
    from llguidance import LLMatcher, grammar_from

    if kind in ("json", "json_object"):
        schema: Any = {"type": "object"} if kind == "json_object" else value
        schema = json.loads(schema) if isinstance(schema, str) else schema
        if not isinstance(schema, dict | bool):
            raise ValueError("a schema is an object")
        whole = cast(dict[str, Any], {} if schema is True else {"not": {}} if schema is False else schema)
        return LLMatcher.grammar_from_json_schema(whole, overrides={"whitespace_pattern": WHITESPACE})
    if kind == "choice":
        return grammar_from("choice", json.dumps(_choices(value)))
    if not isinstance(value, str) or not value:
        raise ValueError("give it as text")
    if kind == "regex":
        return LLMatcher.grammar_from_regex(_unanchored(value))
    return grammar_from("lark" if value.startswith("%llguidance") else "grammar", value)


def _choices(value: Any) -> list[str]:
    choices = cast(list[Any], value) if isinstance(value, list) else []
    if not 0 < len(choices) <= MAX_CHOICES or not all(isinstance(choice, str) and choice for choice in choices):
        raise ValueError(f"give a list of 1 to {MAX_CHOICES} texts")
    return choices


def _unanchored(regex: str) -> str:
    """The whole answer has to match anyway, and llguidance knows no anchors."""
    ends = regex.endswith("$") and (len(regex) - len(regex[:-1].rstrip("\\"))) % 2 == 1
    return regex.removeprefix("^")[: -1 if ends else None]


def _check_size(value: Any) -> None:
    if _depth(value) > MAX_DEPTH:
        raise GrammarRefused(f"it is nested deeper than {MAX_DEPTH}")
    length = len(value) if isinstance(value, str) else len(json.dumps(value))
    if length > MAX_CHARACTERS:
        raise GrammarRefused(f"it has {length} characters; at most {MAX_CHARACTERS} are taken")


def _depth(value: Any) -> int:
    """How deep objects and lists are nested, without recursion; counted up to one more than is taken."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        inner = [cast(Any, each) for each in level if isinstance(each, dict | list)]
        level = [x for each in inner for x in (each.values() if isinstance(each, dict) else each)]
        depth += bool(inner)
    return depth
