"""The rows of a file as JSON lines, by a process: `python -m services.chassis.rows.unpack SOURCE KIND TARGET BYTES RESERVE`.

So a service itself holds no pyarrow, and a file made to burst takes only this process with it. A row has its number as its
line. Ends with status 1 and `code: message` on standard error where the file cannot be read, with all of it unread or none.
"""

import resource
import sys
from pathlib import Path
from typing import Any

from services.chassis.files import Roomy
from services.chassis.rows.reading import rows
from services.chassis.rows.row import Unreadable

MEMORY = 4 << 30


def unpack(source: Path, kind: Any, target: Path, limit: int, reserve: int = 0) -> None:
    """Writes a line a row, while the disk keeps `reserve` bytes free.

    Raises:
        Unreadable: as `rows`, and `too_large` where the lines have more than `limit` bytes.
        OSError: there is no room for them.
    """
    written, lines = 0, 0
    with target.open("wb") as file:
        out = Roomy(file, target.parent, reserve)
        for row in rows(source, kind):
            written += out.write(b"\n" * (row.number - lines - 1) + row.json + b"\n")
            lines = row.number
            if written > limit:
                raise Unreadable("too_large", f"the file unpacks to more than {limit} bytes; send it in parts")


def main() -> None:
    """Reads the command line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    source, kind, target, limit, reserve = sys.argv[1:]
    try:
        unpack(Path(source), kind, Path(target), int(limit), int(reserve))
    except Unreadable as error:
        sys.exit(f"{error.code}: {error}"[:500])
    except OSError as error:  # `rows` makes Unreadable of its own; this one comes of writing
        sys.exit(f"no_room: {error.strerror}")
    except MemoryError:
        sys.exit(f"too_large: the file takes more than {MEMORY >> 30} GiB to unpack; send it in parts")


if __name__ == "__main__":
    main()
