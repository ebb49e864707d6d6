"""The least that gives Triton an OpenAI route: FastAPI, uvicorn and tritonclient, as a user would write it in an hour.

python -m tests.bench.bare_gateway PORT TRITON_ADDRESS MODEL LORA

It checks no request, renders no template (the bench's prompt is written out), waits for no turn, records, counts and traces
nothing: what the gateway takes beside it is the price of those.
"""

import json
import sys
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient


def tensor(name: str, kind: str, value: Any) -> InferInput:
    """A tensor of one value."""
    made = InferInput(name, [1], kind)
    made.set_data_from_numpy(np.array([value], dtype=np.bool_ if kind == "BOOL" else np.object_))
    return made


def make_app(address: str, model: str, lora: str) -> FastAPI:
    """The route over one connection to Triton."""
    held: dict[str, InferenceServerClient] = {}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with InferenceServerClient(address) as client:
            held["client"] = client
            yield

    app = FastAPI(lifespan=lifespan)

    async def texts(wanted: dict[str, Any]) -> AsyncGenerator[str]:
        sampling = {"max_tokens": wanted["max_tokens"], "temperature": 0.0, "lora_name": lora}
        prompt = "[system] Be brief.\n" + "".join(f"[{m['role']}] {m['content']}\n" for m in wanted["messages"])
        inputs = [
            tensor("text_input", "BYTES", f"{prompt}[assistant] ".encode()),
            tensor("sampling_parameters", "BYTES", json.dumps(sampling).encode()),
            tensor("stream", "BOOL", bool(wanted.get("stream"))),
            tensor("exclude_input_in_output", "BOOL", True),
        ]

        async def once() -> AsyncGenerator[dict[str, Any]]:
            yield {"model_name": model, "inputs": inputs}

        responses: Any = held["client"].stream_infer(once())
        async for result, error in responses:
            if error is not None:
                raise error
            yield result.as_numpy("text_output")[0].decode()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        wanted = await request.json()
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": wanted["model"]}
        if not wanted.get("stream"):
            text = "".join([piece async for piece in texts(wanted)])
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            return JSONResponse({**head, "object": "chat.completion", "choices": [choice]})

        async def events() -> AsyncGenerator[str]:
            async for piece in texts(wanted):
                choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
                yield f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    port, *where = sys.argv[1:]
    uvicorn.run(make_app(*where), host="127.0.0.1", port=int(port), access_log=False, log_level="warning")
