"""A receiver of OTLP over HTTP."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Span = dict[str, str]


class Receiver:
    """What a collector listens to on port 4318: OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        found = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    found.extend(spans(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def find(self, trace: str, service: str, name: str) -> Span | None:
        """The first span of a name in a trace."""
        return next((s for s in self.spans if (s["service"], s["name"], s["trace"]) == (service, name, trace)), None)

    def stop(self) -> None:
        """Listens no more."""
        self.server.shutdown()
        self.server.server_close()


def spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """Each span as its attributes, ids, service, name and status."""
    for resource in request.resource_spans:
        about = {item.key: item.value.string_value for item in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                own = {item.key: item.value.string_value or str(item.value.int_value) for item in span.attributes}
                ids = {"trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex()}
                yield {
                    **own,
                    **ids,
                    "service": about["service.name"],
                    "name": span.name,
                    "status": str(span.status.code),
                }
