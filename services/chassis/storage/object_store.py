"""An object store (S3, GCS, Azure) behind a few calls, by obstore. Knows nothing of digests."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from services.chassis.errors import ArtifactMissing, ArtifactRefused, ArtifactUnavailable

SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "memory")


class Objects:
    """Uploads and downloads below one URL. Credentials come from the environment as each cloud's tools take them.

    Every method raises ArtifactUnavailable where the store does not answer, or refuses for now.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def upload(self, path: Path, name: str) -> None:
        """Puts the file under `name`; what already lies there is the same content."""
        import obstore

        with _answering(name):
            obstore.put(self._store, name, path)

    def delete(self, name: str) -> None:
        """Removes the object; one that is not there is no error."""
        import obstore

        with _answering(name):
            obstore.delete(self._store, name)

    def listing(self, prefix: str) -> Iterator[tuple[str, int, datetime]]:
        """(name, bytes, when it was last put) of every object below `prefix`, a thousand a request."""
        import obstore

        with _answering(prefix):
            for found in obstore.list(self._store, prefix, chunk_size=1000):
                yield from ((each["path"], each["size"], each["last_modified"]) for each in found)

    def put_at(self, name: str) -> datetime | None:
        """When the object was last put; None where there is none."""
        import obstore

        try:
            with _answering(name):
                return obstore.head(self._store, name)["last_modified"]
        except ArtifactMissing:
            return None

    def content(self, name: str) -> bytes | None:
        """The content of a small object; None where there is none."""
        import obstore

        try:
            with _answering(name):
                return bytes(obstore.get(self._store, name).bytes())
        except ArtifactMissing:
            return None

    def download(self, name: str, path: Path) -> None:
        """Writes the object to `path`.

        Raises:
            ArtifactMissing: there is none of this name.
        """
        import obstore

        with _answering(name):
            result = obstore.get(self._store, name)
            with path.open("wb") as file:
                for chunk in result.stream(min_chunk_size=4 << 20):
                    file.write(memoryview(chunk))


@contextmanager
def _answering(name: str) -> Generator[None]:
    """The store's errors as ours. What it refuses for its credentials may pass too: those are renewed beside us."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactMissing(f"no object {name} in the store; was it cleaned?") from error
    except BaseError as error:
        said = str(error).strip().splitlines()[:1] or [""]
        raise ArtifactUnavailable(
            f"the store does not serve {name}: {type(error).__name__}: {said[0][:300]}"
        ) from error


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
