"""Runs chat templates with bounds, each in a process of its own: one that loops or bursts delays and harms no other's requests.

Threads would not do: one cannot be ended, and `9 ** (9 ** 9)` in a template holds Python's lock for hours.
"""

import asyncio
import os
import pickle
import select
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from services.lm.errors import TemplateRefused
from services.lm.template import TEMPLATE_FILES, ChatTemplate, Rendered
from services.serving.domain.asked import Asked
from services.serving.domain.errors import Invalid, Unavailable
from services.serving.domain.routing import Target
from services.serving.domain.sampling import prompt_text
from services.serving.template_child import REPLY, Reply, frame

PROCESSES = 16
"""Templates that have a process at once, some 70 MB each; of those that nobody waits for, the one used longest ago goes first."""
KNOWN = 1000
"""Directories whose template is remembered."""
WAITING = 128
"""Requests that may wait for one template."""
START_SECONDS = 60.0
"""For the process to begin: its imports take a second of a quiet core."""


class OutOfBounds(Exception):
    """A template took too long, or ended its process."""


class TemplateProcess:
    """A process with one template, which answers one request at a time. Calls block; each thread waits its turn."""

    def __init__(self, template: ChatTemplate | None) -> None:
        self._template = template
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.waiting = 0
        self.thread = ThreadPoolExecutor(1, "template")

    def ask(self, asked: Path | tuple[Asked, Target], seconds: float) -> Reply:
        """The reply; a process that gives none in time, or dies, is ended, and the next request has another.

        Raises:
            OutOfBounds: there was none.
        """
        with self._lock:
            return self._exchange(self._begun(), asked, seconds)

    def start(self) -> None:
        """Begins the process, so that the first request does not wait for it."""
        with self._lock, suppress(OutOfBounds):
            self._begun()

    def end(self) -> None:
        """Ends the process; a request that runs in it fails."""
        self.thread.shutdown(wait=False, cancel_futures=True)
        _kill(self._process)

    def _begun(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = _begin(self._template)
            self._exchange(self._process, Path("/nonexistent"), START_SECONDS)  # what is imported is no template's time
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], asked: Path | tuple[Asked, Target], seconds: float) -> Reply:
        assert process.stdin  # noqa: S101  a pipe
        assert process.stdout  # noqa: S101  a pipe
        try:
            process.stdin.write(frame(pickle.dumps(asked)))
            process.stdin.flush()
            deadline = time.monotonic() + seconds
            size = int.from_bytes(_receive(process.stdout.fileno(), 4, deadline), "big")
            return REPLY.validate_json(_receive(process.stdout.fileno(), size, deadline))
        except TimeoutError:
            _kill(process)
            raise OutOfBounds(f"the model's chat template took longer than {seconds:g} s") from None
        except OSError as fault:
            _kill(process)
            raise OutOfBounds("the model's chat template ended its process") from fault


def _begin(template: ChatTemplate | None) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "services.serving.template_child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin  # noqa: S101  a pipe
    process.stdin.write(frame(pickle.dumps(template)))
    return process


def _receive(source: int, size: int, deadline: float) -> bytes:
    """So many bytes. Raises TimeoutError, OSError at the end of the stream."""
    received = bytearray()
    ready = select.poll()  # select takes no number above 1,023, and a gateway has many connections
    ready.register(source, select.POLLIN)
    while len(received) < size:
        if not ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        if not (piece := os.read(source, size - len(received))):
            raise OSError("the process ended")
        received += piece
    return bytes(received)


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        with suppress(OSError):
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                assert pipe  # noqa: S101  both are pipes
                pipe.close()


@dataclass(slots=True)
class Templates:
    """The templates of one gateway. `prompt_text` is for the event loop's thread, `read` for any other.

    Args:
        seconds: that a template may take for one conversation.
    """

    seconds: float
    _processes: OrderedDict[int, tuple[ChatTemplate, TemplateProcess]] = field(
        default_factory=OrderedDict[int, tuple[ChatTemplate, TemplateProcess]]
    )
    _known: dict[Path, ChatTemplate | None] = field(default_factory=dict[Path, ChatTemplate | None])
    _reader: TemplateProcess = field(default_factory=partial(TemplateProcess, None))

    async def prompt_text(self, asked: Asked, target: Target) -> Rendered:
        """The text that the model continues.

        Raises:
            Invalid: the model has no chat template, or its template refuses these messages or takes too long.
            Unavailable: too many requests wait for it.
        """
        if asked.messages is None or target.template is None:
            return prompt_text(asked, target)
        process = self._process(target.template)
        if process.waiting >= WAITING:
            raise Unavailable("Too many requests wait for this model's chat template.", "overloaded", 1)
        process.waiting += 1
        try:
            work = partial(process.ask, (asked, replace(target, template=None)), self.seconds)
            reply = await asyncio.get_running_loop().run_in_executor(process.thread, work)
        except OutOfBounds as error:
            raise Invalid(str(error), "invalid_value", "messages") from error
        finally:
            process.waiting -= 1
        if reply.rendered is None:
            raise Invalid(*(reply.invalid or (reply.refused or "no text", "invalid_value", "messages")))
        return reply.rendered

    def start(self, template: ChatTemplate) -> None:
        """Begins the template's process where it has none."""
        process = self._process(template)
        process.thread.submit(process.start)

    def read(self, directory: Path) -> ChatTemplate | None:
        """The template in a directory that never changes; None without one. Equal ones are one object.

        Raises:
            TemplateRefused: it is not valid Jinja.
            OutOfBounds: it takes too long.
        """
        if directory not in self._known:
            reply = Reply()
            if any((directory / name).is_file() for name in TEMPLATE_FILES[:2]):
                reply = self._reader.ask(directory, self.seconds)
            if reply.refused is not None:
                raise TemplateRefused(reply.refused)
            same = (known for known in self._known.values() if known == reply.template)
            found = next(same, reply.template)
            if len(self._known) >= KNOWN:
                del self._known[next(iter(self._known))]
            self._known[directory] = found
        return self._known[directory]

    def end(self) -> None:
        """Ends all processes."""
        for process in (self._reader, *(process for _, process in self._processes.values())):
            process.end()

    def _process(self, template: ChatTemplate) -> TemplateProcess:
        if id(template) not in self._processes:
            self._processes[id(template)] = template, TemplateProcess(template)
            idle = (key for key, (_, process) in self._processes.items() if not process.waiting and key != id(template))
            if len(self._processes) > PROCESSES and (oldest := next(idle, None)) is not None:
                self._processes.pop(oldest)[1].end()
        self._processes.move_to_end(id(template))
        return self._processes[id(template)][1]
