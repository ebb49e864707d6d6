"""The freezes that failed and that no later one made good, as prep tells them beside its datasets."""

from typing import Any

from services.cli import api


def failed() -> list[dict[str, Any]]:
    """{"project", "code", "detail", "job", "asked_at"} of each project whose last freeze failed. Raises Refused, Unreachable."""
    return api.get("prep", "/v1/datasets", limit=1).get("failures", [])
