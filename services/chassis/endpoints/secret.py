"""A secret by its name: a file of the secrets' folder, else a variable NORIA_SECRET_<NAME>. Keeps none.

Never any other variable: whoever writes a project file would choose what of this process's environment goes to the endpoint.
"""

import contextlib
import os
from pathlib import Path

from services.chassis.observability import redaction

PREFIX = "NORIA_SECRET_"


def find_secret(name: str, folder: Path | None) -> str | None:
    """The secret, taken out of every later log line; None where there is none. Read at each request, so that it can be renewed.

    `name` is a SecretName, which cannot leave the folder.
    """
    found = os.environ.get(PREFIX + name)
    if folder is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found = (folder / name).read_text(encoding="utf-8")
    found = (found or "").strip()
    if not found or not found.isascii() or not found.isprintable():
        return None
    redaction.learn(found)
    return found
