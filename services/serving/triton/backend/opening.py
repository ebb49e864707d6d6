"""The model that a thread opens while Triton goes on: Triton begins no other load while one's initialize runs.

Until it is open the backend answers nothing but how far it is.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.serving.triton.backend.serve import Served


class NotOpen(Exception):
    """The model is being opened, or could not be; its words are those by which clients know a model that is not ready."""


class Opening:
    """A model that is being opened, is open, or cannot be opened.

    Args:
        open: opens it; whatever it raises is the reason why the load failed.
        log: told what became of it.
        refuse: the same for a failure.
    """

    def __init__(self, open: Callable[[], "Served"], log: Callable[[str], None], refuse: Callable[[str], None]) -> None:
        self._open, self._log, self._refuse = open, log, refuse
        self._lock = threading.Lock()
        self._served: Served | None = None
        self._failure: str | None = None
        self._stopped = False
        threading.Thread(target=self._run, name="opening", daemon=True).start()

    def served(self) -> "Served":
        """The model that answers.

        Raises:
            NotOpen: there is none yet, or never will be.
        """
        if self._served is None:
            raise NotOpen(f"the model is not ready: {self._failure or 'it is being loaded'}")
        return self._served

    def status(self) -> dict[str, Any]:
        """What a question for the status is answered with (services/serving/triton/status.py)."""
        if self._served is None:
            return {"opening": self._failure is None, "failure": self._failure}
        return self._served.engine.status()

    def stop(self) -> None:
        """Ends the engine, now or as soon as there is one."""
        with self._lock:
            self._stopped, served = True, self._served
        if served is not None:
            served.engine.stop()

    def _run(self) -> None:
        try:
            served = self._open()
        except BaseException as error:  # SystemExit too: whatever ends this thread is the reason
            self._failure = f"{type(error).__name__}: {error}"
            self._refuse(self._failure)
            return
        with self._lock:
            self._served, stopped = served, self._stopped
        self._log(served.summary)
        if stopped:
            served.engine.stop()
