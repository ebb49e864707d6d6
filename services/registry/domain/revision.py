"""The revision of a project: the digest of its specification's canonical JSON. Knows no file format."""

from contracts.canonical import canonical, digest
from contracts.project import ProjectSpec


def revision(spec: ProjectSpec) -> str:
    """SHA-256 (hex) of the specification with all defaults spelt out, keys sorted, without blanks, as UTF-8."""
    return digest(canonical(spec.model_dump(mode="json")))
