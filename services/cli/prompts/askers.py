"""Who is asked in a search: the model whose prompt it is, and the one that writes instructions. Asks neither."""

import os
from pathlib import Path
from typing import Any

from contracts.canonical import canonical, digest
from contracts.project import ProjectSpec
from services.cli import api
from services.cli.addresses import settings
from services.cli.errors import Usage
from services.cli.prompts.asking import Endpoint, gateway
from services.cli.prompts.search import Asked

WRITES = {"temperature": 1.0, "max_tokens": 1024}
"""Parameters of a reflection: each one is drawn anew."""


def askers(
    spec: ProjectSpec, model: str | None, reflect: str | None, reflect_model: str | None, key: str | None
) -> Asked:
    """The model at the gateway, and the reflecting one there or at a URL. Raises Usage, Refused, Unreachable."""
    answering = model or _serving(spec.project)
    task = {"model": answering, "temperature": 0.0, "max_tokens": spec.serve.max_tokens, "store": False}
    if reflect is not None and reflect.startswith(("http://", "https://")):
        if reflect_model is None:
            raise Usage("no_reflect_model", "--reflect is a URL; name the model there with --reflect-model")
        return Asked(gateway(), task, _elsewhere(reflect, key), {"model": reflect_model, **WRITES})
    if reflect_model or key:
        raise Usage("no_reflect_url", "--reflect-model and --reflect-key are for a --reflect that is a URL")
    return Asked(gateway(), task, gateway(), {"model": reflect or answering, **WRITES, "store": False})


def _elsewhere(url: str, name: str | None) -> Endpoint:
    """An endpoint at a URL, with the key that an environment variable holds; the key itself is never shown. Raises Usage."""
    key = os.environ.get(name, "").strip() if name else ""
    if name and not key:
        raise Usage(
            "no_key", "--reflect-key names no environment variable that is set; give the variable's name, not the key"
        )
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return Endpoint(url.rstrip("/"), headers, "the reflecting model", proxied=True)


def _serving(project: str) -> str:
    """The version that serves, by its number, so that a promotion in the middle changes nothing; else the base."""
    found = api.items("registry", "/v1/models", 200, project=project)["items"]
    version = next((row["version"] for row in found if row.get("serves")), None)
    return f"{project}@{version if version is not None else 'base'}"


def ledger_file(spec: ProjectSpec, asked: Asked, about: dict[str, Any]) -> Path:
    """The file of this search: what it hangs on is in its name, its budget is not."""
    hangs_on = {
        **about,
        "prompt": spec.prompt.model_dump(mode="json"),
        "request": dict(asked.request),
        "reflect": [asked.reflect_endpoint.url, dict(asked.reflect_request)],
    }
    return settings().home / "optimise" / f"{spec.project}-{digest(canonical(hangs_on))[:16]}.jsonl"
