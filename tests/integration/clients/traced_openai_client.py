"""An application that asks OpenAI and is traced: the openai client under the instrumentation that the first argument names.

Knows OpenAI's address and the collector's by the variables that their libraries read, and nothing of Noria.
"""

import sys
from contextlib import suppress
from typing import Any

import openai
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

SKY: Any = {
    "type": "function",
    "function": {
        "name": "sky",
        "description": "The sky's color",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}
QUESTION: Any = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What color is the sky at noon? Größe: ½"},
]


def instrument(name: str) -> None:
    """Puts the instrumentation around the client, as its page says."""
    if name == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor
    elif name == "openllmetry":
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    else:
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

        events_to_logs()
    OpenAIInstrumentor().instrument()


def events_to_logs() -> None:
    """The SDK's other half, for an instrumentation that sends contents as events."""
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    logs = LoggerProvider()
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    set_logger_provider(logs)


def ask() -> None:
    """A conversation with a call of a tool, a stream, two answers at once, an embedding and a call that fails."""
    client = openai.OpenAI(max_retries=0)
    first = client.chat.completions.create(model="gpt-x", messages=QUESTION, tools=[SKY])
    called = first.choices[0].message
    turns = [*QUESTION, called, {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "blue"}]
    client.chat.completions.create(model="gpt-x", messages=turns, tools=[SKY])
    for _ in client.chat.completions.create(model="gpt-x", messages=QUESTION, stream=True):
        pass
    client.chat.completions.create(model="gpt-x", messages=QUESTION, n=2)
    client.embeddings.create(model="embed-x", input="the sky")
    with suppress(openai.NotFoundError):
        client.chat.completions.create(model="missing", messages=QUESTION)


if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    instrument(sys.argv[1])
    ask()
    provider.shutdown()
