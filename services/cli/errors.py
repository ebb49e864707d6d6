"""What a verb of `noria` can fail with. Knows how an error is told, not where it comes from.

ConsoleError            anything; exit status 1
├── Unreachable         a service, Kafka or Triton does not answer
├── Refused             a service answered and said no
├── NotRun              what should be tested could not be run; exit status 2, since 1 says that it failed
└── Usage               the command line or a file given on it is wrong; exit status 2
"""

from typing import Any


class ConsoleError(Exception):
    """A failure to be told to whoever typed the command: a stable code, a message, and detail for programs."""

    exit_code = 1

    def __init__(self, code: str, message: str, detail: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail = detail

    def document(self) -> dict[str, Any]:
        """The error as `--json` prints it: the shape of the services' own errors."""
        detail = {} if self.detail is None else {"detail": self.detail}
        return {"error": {"code": self.code, "message": self.message, **detail}}


class Unreachable(ConsoleError):
    """Nothing answers at an address."""


class Refused(ConsoleError):
    """A service answered with an error; `status` is HTTP's."""

    def __init__(self, status: int, code: str, message: str, detail: Any = None) -> None:
        super().__init__(code, message, detail)
        self.status = status


class NotRun(ConsoleError):
    """Cases could not be run, so that nobody knows whether they pass."""

    exit_code = 2


class Usage(ConsoleError):
    """The command line, a file or a setting is wrong."""

    exit_code = 2
