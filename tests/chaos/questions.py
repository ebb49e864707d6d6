"""Questions to the gateway of a stack under test: one by one, far too many at once, very long ones, and some whose reader stops.

Writes down each answer with whether it was acknowledged: a body, or the end of a stream.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import httpx

from tests.chaos.observed import Operation

CROWD = 90
CROWD_TOKENS = 256
"""Requests of an overload, and the tokens that each asks for."""
LONG_CHARACTERS = 8_000
"""Of a long prompt: as many tokens of the bytes that the chaos run's base reads."""
READER_TOKENS = 20_000
"""A stalled reader's answer: more than its system and the gateway keep for it."""
READER_SECONDS = 15.0
"""So long such a reader holds its connection and takes nothing: longer than the run's gateway waits for it."""
PATIENCE = 60.0


class Questions:
    """Asks the gateway at `url()`; what came of it goes to `operations`. Safe in threads."""

    def __init__(self, url: Callable[[], str], models: Sequence[str], operations: list[Operation]) -> None:
        self._url = url
        self._models = models
        self._operations = operations
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def ask(self, model: str, text: str, tokens: int, *, stream: bool, wait: float = 30.0) -> str | None:
        """The request's id where its answer was acknowledged. Raises httpx.HTTPError where the gateway broke off."""
        body = _body(model, text, tokens, stream)
        with httpx.stream("POST", f"{self._url()}/v1/chat/completions", json=body, timeout=wait) as answer:
            said = answer.read().decode()
        if answer.status_code != 200:
            return None
        id, whole = answer.headers["x-noria-request-id"], not stream or "data: [DONE]" in said
        self._operations.append(Operation("answer", id, whole))
        return id if whole else None

    def overload(self) -> None:
        """Far more answers at once than the model can make soon: each is given, or refused."""
        for number in range(CROWD):
            model = self._models[number % len(self._models)]
            self._background(lambda model=model: self._try(model, "hello", CROWD_TOKENS))

    def long_prompts(self) -> None:
        """Prompts that take long to be read, beside whatever is asked otherwise."""
        for number, model in enumerate(self._models):
            text = f"{number} {time.monotonic()} " + "all work and no play " * (LONG_CHARACTERS // 21)
            self._background(lambda model=model, text=text: self._try(model, text, 8))

    def slow_readers(self) -> None:
        """Clients that begin to read a long stream and then take nothing more of it, for a while."""
        for model in self._models:
            self._background(lambda model=model: self._stall(model))

    def stop(self) -> None:
        """Waits until what is under way has ended."""
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE + 10)

    def _background(self, work: Callable[[], None]) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _try(self, model: str, text: str, tokens: int) -> None:
        try:
            self.ask(model, text, tokens, stream=False, wait=PATIENCE)
        except httpx.HTTPError:
            return  # another fault met it

    def _stall(self, model: str) -> None:
        wanted = json.dumps(_body(model, "hello", READER_TOKENS, True)).encode()
        address = urlsplit(self._url())
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(wanted)}\r\n\r\n"
        try:
            with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as reader:
                reader.sendall(head.encode() + wanted)
                reader.recv(1)
                self._over.wait(READER_SECONDS)
        except OSError:
            return


def _body(model: str, text: str, tokens: int, stream: bool) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "max_tokens": tokens, "stream": stream, "ignore_eos": tokens > 200}
