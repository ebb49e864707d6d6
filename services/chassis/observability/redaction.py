"""Makes text of unknown origin fit to leave the process: takes secrets out, and what no database stores.

The second line: the first is to write none down. Libraries put what they were given into their errors, and a handler's
error goes into logs, dead letters, parked rows and spans.
"""

import json
import re
from collections.abc import Mapping
from urllib.parse import unquote

HIDDEN = "***"
SHORTEST = 6
"""Characters: a shorter secret cannot be told from other text."""
NAMES = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_KEY|ACCESS_KEY|ACCOUNT_KEY|SAS_KEY)$")
"""How the names of variables end that hold secrets, those of the AWS, Google and Azure SDKs among them."""
_IN_URL = re.compile(r"(?<=://)([^\s/:@\"']*):([^\s/@\"']+)(?=@)")
_PATTERNS = (
    (_IN_URL, rf"\1:{HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic) [A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\bnoria_([0-9a-f]{8})_[A-Za-z0-9_-]{20,}"), rf"noria_\1_{HIDDEN}"),  # an API key; its id is no secret
)


class _Known:
    """The secrets this process was given, and the expression that finds them."""

    secrets: frozenset[str] = frozenset()
    expression: re.Pattern[str] | None = None


def learn(*secrets: str) -> None:
    """Takes these out of every later text."""
    _Known.secrets |= {secret for secret in secrets if len(secret) >= SHORTEST}
    forms = _Known.secrets | {json.dumps(secret)[1:-1] for secret in _Known.secrets}
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    _Known.expression = re.compile("|".join(map(re.escape, longest_first))) if forms else None


def learn_environment(environment: Mapping[str, str]) -> None:
    """Takes out what the variables hold whose names say secret, and the passwords in URLs."""
    named = [value for name, value in environment.items() if NAMES.search(name.upper())]
    in_urls = [found[2] for value in environment.values() for found in _IN_URL.finditer(value)]
    learn(*named, *in_urls, *map(unquote, in_urls))


def redact(text: str) -> str:
    """The text with `***` for every secret."""
    if _Known.expression is not None:
        text = _Known.expression.sub(HIDDEN, text)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def storable(text: str) -> str:
    """`text` with NUL, which PostgreSQL refuses, and halves of surrogate pairs, which both refuse, written as escapes."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
