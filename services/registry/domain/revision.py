"""The revision of a project: the digest of its specification's canonical JSON. Knows no file format."""

import hashlib
import json

from contracts.project import ProjectSpec


def revision(spec: ProjectSpec) -> str:
    """SHA-256 (hex) of the specification with all defaults spelt out, keys sorted, without blanks, as UTF-8."""
    text = json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
