"""The process in which one chat template runs: a template is code of whoever made the model. Knows no gateway.

Frames on standard input and output: four bytes of length, then the content. In: pickles, first of the limit and the template,
then of requests. Out: JSON. Templates are read here too (`read`): compiling one runs it.
"""

import pickle
import resource
import struct
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from services.lm.errors import TemplateRefused
from services.lm.template import ChatTemplate, Rendered, read_template
from services.serving.domain.asked import Asked
from services.serving.domain.errors import Invalid
from services.serving.domain.routing import Target
from services.serving.domain.sampling import prompt_text

MEMORY_BYTES = 512_000_000
"""That a template may take beyond what the process has when it begins: the longest text that is sent takes 8 MB."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request: one of these."""

    rendered: Rendered | None = None
    template: ChatTemplate | None = None
    invalid: tuple[str, str | None, str | None] | None = None
    """Message, code and parameter of an Invalid."""
    refused: str | None = None
    """Why there is no usable template."""


REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame, None at the end."""
    head = stream.read(4)
    return stream.read(struct.unpack("!I", head)[0]) if len(head) == 4 else None


def frame(content: bytes) -> bytes:
    """The content as a frame."""
    return struct.pack("!I", len(content)) + content


def limit_memory(more: int) -> None:
    """Lets this process have so many bytes more, and not write a core."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def answer(template: ChatTemplate | None, asked: Any) -> Reply:
    """The reply to a directory, whose template is read, or to a request and its target, whose prompt is written."""
    try:
        if isinstance(asked, Path):
            return Reply(template=read_template(asked))
        request, target = asked
        return Reply(rendered=_text(request, replace(target, template=template)))
    except Invalid as fault:
        return Reply(invalid=(fault.message, fault.code, fault.param))
    except TemplateRefused as fault:
        return Reply(refused=str(fault))
    except MemoryError:
        return Reply(refused=f"the chat template takes more than {MEMORY_BYTES // 1_000_000} MB")


def _text(asked: Asked, target: Target) -> Rendered:
    return prompt_text(asked, target)


def main() -> None:
    """Answers until standard input ends."""
    received, sent = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    template: ChatTemplate | None = pickle.loads(read_frame(received) or b"")  # noqa: S301  the gateway's own
    limit_memory(MEMORY_BYTES)
    while (content := read_frame(received)) is not None:
        said = REPLY.dump_json(answer(template, pickle.loads(content)))  # noqa: S301
        sent.write(frame(said))
        sent.flush()


if __name__ == "__main__":
    main()
