"""Dataset names as people type them: `shell-copilot@2`. Knows no dataset."""

import re

from services.cli.errors import Usage

_NAMED = re.compile(r"^([a-z0-9][a-z0-9-]{0,62})[@#]([0-9]{1,9})$")


def parse(raw: str) -> tuple[str, int]:
    """Project and number.

    Raises:
        Usage: it is not PROJECT@NUMBER.
    """
    match = _NAMED.match(raw)
    if match is None:
        raise Usage("bad_dataset_name", f"{raw!r} names no dataset; give PROJECT@NUMBER, as shell-copilot@1")
    return match[1], int(match[2])
