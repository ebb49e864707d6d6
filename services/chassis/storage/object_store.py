"""An object store (S3, GCS, Azure) behind a few calls, by obstore. Knows nothing of digests."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from services.chassis.errors import ArtifactMissing, ArtifactRefused

SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "memory")


class Objects:
    """Uploads and downloads below one URL. Credentials come from the environment as each cloud's tools take them."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def upload(self, path: Path, name: str) -> None:
        """Puts the file under `name`; what already lies there is the same content."""
        import obstore

        obstore.put(self._store, name, path)

    def listing(self, prefix: str) -> Iterator[tuple[str, int, datetime]]:
        """(name, bytes, when it was last put) of every object below `prefix`, a thousand a request."""
        import obstore

        for found in obstore.list(self._store, prefix, chunk_size=1000):
            yield from ((each["path"], each["size"], each["last_modified"]) for each in found)

    def put_at(self, name: str) -> datetime | None:
        """When the object was last put; None where there is none."""
        import obstore

        try:
            return obstore.head(self._store, name)["last_modified"]
        except FileNotFoundError:
            return None

    def content(self, name: str) -> bytes | None:
        """The content of a small object; None where there is none."""
        import obstore

        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Deletes the object."""
        import obstore

        obstore.delete(self._store, name)

    def download(self, name: str, path: Path) -> None:
        """Writes the object to `path`.

        Raises:
            ArtifactMissing: there is none of this name.
        """
        import obstore

        try:
            result = obstore.get(self._store, name)
        except FileNotFoundError as error:
            raise ArtifactMissing(f"no object {name} in the store; was it cleaned?") from error
        with path.open("wb") as file:
            for chunk in result.stream(min_chunk_size=4 << 20):
                file.write(memoryview(chunk))


def open_objects(root: str) -> Objects:
    """The object store at a URL such as s3://bucket/prefix.

    Raises:
        ArtifactRefused: its scheme is none of ours.
    """
    scheme = root.split("://")[0]
    if scheme not in SCHEMES:
        raise ArtifactRefused(f"{root}: the scheme {scheme!r} is not known; give file, s3, gs or az")
    from obstore.store import from_url

    return Objects(from_url(root))
