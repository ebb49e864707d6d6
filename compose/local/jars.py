"""Fetches jars by Maven coordinate and checks them against their pinned digests. Knows no Kafka."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

AT_ONCE = 8
SECONDS = 60


class JarError(Exception):
    """A jar did not come, or is not the pinned one."""


@dataclass(frozen=True, slots=True)
class Jar:
    """A pinned jar."""

    group: str
    artifact: str
    version: str
    sha256: str


def parse(pins: str) -> list[Jar]:
    """Jars from lines `group:artifact:version sha256:HEX`.

    Raises:
        JarError: a line without a digest.
    """
    found: list[Jar] = []
    for line in filter(None, map(str.strip, pins.splitlines())):
        coordinate, _, digest = line.partition(" sha256:")
        if not digest:
            raise JarError(f"no digest behind {coordinate}; a line is: group:artifact:version sha256:HEX")
        group, artifact, version = coordinate.split(":")
        found.append(Jar(group, artifact, version, digest))
    return found


def fetch(pins: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Writes the jars into `folder`; (how many came, how many there are) after each.

    Every coordinate is named, so nothing is resolved: given Kafka's own alone, jgo's Python resolver mixes versions.

    Raises:
        JarError: one did not come, or its digest is another.
    """
    jars = parse(pins)
    # A cache of its own: jgo writes in place, so an interrupted download would stay in ~/.m2 for ever, cut short.
    with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(AT_ONCE) as pool:
        coming = [pool.submit(_fetch, jar, Path(cache), folder) for jar in jars]
        try:
            for number, done in enumerate(as_completed(coming), 1):
                done.result()
                yield number, len(jars)
        finally:
            pool.shutdown(cancel_futures=True)


def _fetch(jar: Jar, cache: Path, folder: Path) -> None:
    from jgo.maven import MavenContext

    name = f"{jar.artifact}-{jar.version}.jar"
    context = MavenContext(repo_cache=cache, timeout=SECONDS)
    try:
        path = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except Exception as error:  # jgo and requests raise many kinds; each means that the jar did not come
        raise JarError(f"{name} could not be fetched; is the Maven repository reachable? {error}") from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != jar.sha256:
        raise JarError(f"{name} is not the pinned one: sha256 {found}, pinned {jar.sha256}")
    shutil.move(path, folder / name)
