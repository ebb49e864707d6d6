"""A project that was applied and nothing more: its base answers, on a real Triton, until a version is promoted."""

from pathlib import Path

import httpx

from services.lm.base_files import base_ref
from tests.integration.serving_parts import Stack, make_upstream, openai_client, running, until

USER = [{"role": "user", "content": "hello"}]


def test_the_base_answers_once_a_project_is_applied_and_stays_loaded(kafka: str, tmp_path: Path) -> None:
    with running(Stack(tmp_path / "home", kafka)) as stack:
        upstream = make_upstream(stack, tmp_path / "scratch")
        folder = str(tmp_path / "scratch" / "base")
        upstream.base = base_ref(folder, Path(folder), upstream.artifacts.put_file)
        upstream.define("applied", base=folder)
        upstream.define("lost", base="/nowhere/base")
        stack.wait_for("applied", "applied@base")
        client = openai_client(stack)

        def asked() -> str | None:
            answer = client.chat.completions.with_raw_response.create(model="applied", messages=USER)  # type: ignore[arg-type]
            return answer.headers.get("x-noria-model-version")

        until(lambda: httpx.get(f"{stack.url}/v1/models/applied").json()["ready"] or None, 60, "the base is loaded")
        assert asked() == "0"
        refused = httpx.post(f"{stack.url}/v1/chat/completions", json={"model": "lost", "messages": USER})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "base_unavailable")
        assert "/nowhere/base" in refused.json()["error"]["message"]
        upstream.promote("applied", 1, upstream.adapter("one", 1))
        stack.wait_for("applied", "applied@1")
        assert asked() == "1"
        of_base = [line for line in stack.log("serving").splitlines() if "deployer.done" in line and "Load" in line]
        assert len(of_base) == 1, of_base
