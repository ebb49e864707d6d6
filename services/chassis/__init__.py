"""What every service stands on: consumption, outbox, jobs, artifacts, health. It knows no service."""

import sys

if "rich" not in sys.modules and "structlog" not in sys.modules:
    # structlog loads rich, 4 MB in each service, for coloured lines wherever it is installed; services log JSON alone.
    sys.modules["rich"] = None  # pyright: ignore[reportArgumentType]
    import structlog as structlog

    del sys.modules["rich"]
