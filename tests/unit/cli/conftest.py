import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

PORTS = ("ingestion", "prep", "trainer", "evaluator", "registry", "serving", "feedback")


Answering = Callable[[str, bytes], tuple[int, Any, dict[str, str]]]


@dataclass
class Services:
    """Real HTTP on one port in place of every service: answers by (method, path), and what was asked."""

    answers: dict[tuple[str, str], list[tuple[int, Any]]] = field(default_factory=dict[Any, Any])
    functions: dict[tuple[str, str], Answering] = field(default_factory=dict[Any, Any])
    asked: list[tuple[str, str, bytes]] = field(default_factory=list[tuple[str, str, bytes]])
    keys: list[str | None] = field(default_factory=list[str | None])
    url: str = ""

    def compute(self, method: str, path: str, function: Answering) -> None:
        """The answer to a request is what the function makes of its path and body: status, body, headers."""
        self.functions[method, path] = function

    def say(self, method: str, path: str, *answers: tuple[int, Any]) -> None:
        """The answers to a request, one after another, the last again and again."""
        self.answers[method, path] = list(answers)


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    found = Services()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            found.asked.append((self.command, self.path, body))
            found.keys.append(self.headers.get("authorization"))
            function = found.functions.get((self.command, self.path.split("?")[0]))
            if function is not None:
                self.reply(*function(self.path, body))
                return
            answers = found.answers.get((self.command, self.path.split("?")[0]), [(404, {"error": {"message": "?"}})])
            status, answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.reply(status, answer, {})

        def reply(self, status: int, answer: Any, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        do_POST = do_GET  # noqa: N815 - the name http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            return None

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients that leave, and functions that break off, are part of tests; other faults are told."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    for name in PORTS:
        monkeypatch.setenv(f"NORIA_{name.upper()}_PORT", str(server.server_port))
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
