"""The revision of a project: the digest of its specification's canonical JSON. Knows no file format."""

from contracts.canonical import canonical, digest
from contracts.project import ProjectSpec


def revision(spec: ProjectSpec) -> str:
    """SHA-256 (hex) of the specification with all defaults spelt out, keys sorted, without blanks, as UTF-8.

    Only `ingest`, which came later, is left out where it says nothing: a project keeps its revision.
    """
    return digest(canonical(spec.model_dump(mode="json")))
