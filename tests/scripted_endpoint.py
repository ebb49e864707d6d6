"""A real HTTP server that answers as it is told: an OpenAI-compatible endpoint that can do everything wrong."""

import json
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Act = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request; the endpoint's script answers it."""

    protocol_version = "HTTP/1.1"
    endpoint: "Endpoint"

    def do_POST(self) -> None:
        self.sent: Any = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.endpoint.requests.append((self.path, dict(self.headers), self.sent))
        acts = self.endpoint.acts
        act = acts.pop(0) if len(acts) > 1 else acts[0]
        self.close_connection = True
        act(self)

    def do_GET(self) -> None:
        self.endpoint.followed.append(self.path)
        self.whole(200, {})

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def whole(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        # As it does: a client that keeps the connection would now and then send its next request into one that is being closed.
        given = {"content-type": "application/json", "content-length": str(len(data)), "connection": "close"}
        for name, value in {**given, **{k.replace("_", "-"): v for k, v in headers.items()}}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, events: Iterable[Any], done: bool = True) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for event in events:
            text = event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n"
            self.wfile.write(text.encode())
            self.wfile.flush()
        if done:
            self.wfile.write(b"data: [DONE]\n\n")


@dataclass
class Endpoint:
    """Does the first of its acts at each request; the last one stays."""

    url: str
    acts: list[Act] = field(default_factory=list[Act])
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list[tuple[str, dict[str, str], Any]])
    followed: list[str] = field(default_factory=list[str])
    gate: threading.Event = field(default_factory=threading.Event)
    """Acts that wait, wait for it; set at the end."""

    def say(self, *acts: Act) -> None:
        self.acts[:] = acts


@contextmanager
def endpoint() -> Generator[Endpoint]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    server.daemon_threads = True
    made = Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1")
    server.RequestHandlerClass = type("Scripted", (Request,), {"endpoint": made})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made
    finally:
        made.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


def delta(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    said = {**({} if content is None else {"content": content}), **more}
    return {"id": "x", "model": "large-1", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def usage(prompt: int = 100, completion: int = 20) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def answer(*texts: str, finish: str = "stop", counted: bool = True) -> Act:
    """A stream of these texts."""
    events = [delta(role="assistant", content=""), *(delta(text) for text in texts), delta(finish=finish)]
    return lambda request: request.stream([*events, *([usage()] if counted else [])])


def fails(status: int, message: str = "no", **headers: str) -> Act:
    body = {"error": {"message": message, "type": "x", "param": None, "code": None}}
    return lambda request: request.whole(status, body, **headers)


def hangs_up(request: Request) -> None:
    """Ends the connection without a word."""
    request.connection.close()
