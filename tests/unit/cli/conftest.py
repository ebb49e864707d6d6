import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

PORTS = ("ingestion", "prep", "trainer", "evaluator", "registry", "serving", "feedback")


@dataclass
class Services:
    """Real HTTP on one port in place of every service: answers by (method, path), and what was asked."""

    answers: dict[tuple[str, str], list[tuple[int, Any]]] = field(default_factory=dict[Any, Any])
    asked: list[tuple[str, str, bytes]] = field(default_factory=list[tuple[str, str, bytes]])

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
            answers = found.answers.get((self.command, self.path.split("?")[0]), [(404, {"error": {"message": "?"}})])
            status, answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        do_POST = do_GET  # noqa: N815 - the name http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in PORTS:
        monkeypatch.setenv(f"NORIA_{name.upper()}_PORT", str(server.server_port))
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
