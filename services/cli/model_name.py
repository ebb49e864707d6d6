"""Model names as people type them: `shell-copilot@2`. Knows no registry."""

import re

from services.cli.errors import Usage

_NAMED = re.compile(r"^([a-z0-9][a-z0-9-]{0,62})@v?([0-9]{1,9})$")


def parse(raw: str) -> tuple[str, int]:
    """Name and version.

    Raises:
        Usage: it is not NAME@VERSION.
    """
    match = _NAMED.match(raw)
    if match is None:
        raise Usage("bad_model_name", f"{raw!r} names no model version; give MODEL@VERSION, as shell-copilot@1")
    return match[1], int(match[2])
