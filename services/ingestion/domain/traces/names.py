"""The names by which traces tell of calls of language models: nowhere else, since none of these conventions is stable.

Sources, each at the commit that was read:
- GenAI: open-telemetry/semantic-conventions-genai, docs/gen-ai at 0724e29c6580306f261c850e4a6f62f194636a83, and its former
  events (a message each): open-telemetry/semantic-conventions v1.30.0 and v1.27.0 (gen_ai.content.prompt).
- OpenInference: Arize-ai/openinference, spec/semantic_conventions.md at e3030b7686863edc70fb5222e6aa7a8243fcf004.
- OpenLLMetry: traceloop/openllmetry, opentelemetry-semantic-conventions-ai 0.4 (gen_ai.prompt.N); since 0.5 it writes GenAI's.
"""

# GenAI
OPERATION = "gen_ai.operation.name"
CALLS = frozenset({"chat", "text_completion", "generate_content"})
"""Operations that are one call of a model; an agent's or a workflow's hold such calls as spans of their own."""
INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
SYSTEM, TOOLS = "gen_ai.system_instructions", "gen_ai.tool.definitions"
DETAILS = "gen_ai.client.inference.operation.details"
MESSAGE_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.developer.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
"""Former events of one message each -> the role where the body gives none."""
CHOICE = "gen_ai.choice"
PROMPT_EVENT, COMPLETION_EVENT = "gen_ai.content.prompt", "gen_ai.content.completion"
PROMPT_JSON, COMPLETION_JSON = "gen_ai.prompt", "gen_ai.completion"
INDEX = "index"
"""A choice's place among the answers of its call."""
BODY = "gen_ai.event.content"
"""An event's body where it is a span's, which has attributes alone."""
EVENT_NAME = "event.name"
ERROR = "error.type"
GENAI_MODELS = ("gen_ai.response.model", "gen_ai.request.model")

# OpenInference
KIND, KIND_OF_CALL = "openinference.span.kind", "LLM"
OI_INPUT, OI_OUTPUT, OI_TOOLS = "llm.input_messages", "llm.output_messages", "llm.tools"
OI_PARAMETERS, OI_MODEL = "llm.invocation_parameters", "llm.model_name"
VALUE_IN, VALUE_OUT = "input.value", "output.value"

# OpenLLMetry
REQUEST_TYPE, REQUESTS = "llm.request.type", frozenset({"chat", "completion"})
OL_INPUT, OL_OUTPUT, OL_TOOLS = "gen_ai.prompt", "gen_ai.completion", "llm.request.functions"

# What tells whose call it is
USERS = ("user.id", "enduser.id")
CONVERSATIONS = ("gen_ai.conversation.id", "session.id")
SERVICE = "service.name"

# Noria's own: attributes of a resource or a span
PROJECT = "noria.project"
TAG = "noria.tag."
