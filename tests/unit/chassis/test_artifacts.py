"""Artifacts come back as they were or not at all, on local disk and on an object store; nothing leaves its root."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.types import ArtifactRef
from services.chassis.errors import ArtifactCorrupt, ArtifactMissing, ArtifactRefused
from services.chassis.storage.artifacts import ArtifactStore, safe_name


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    root = (tmp_path / "store").as_uri() if request.param == "file" else "memory:///bucket"
    return ArtifactStore(root, tmp_path / "cache")


def test_what_is_put_comes_back_under_its_digest(store: ArtifactStore, tmp_path: Path) -> None:
    ref = store.put_bytes(b"hello")
    assert ref.sha256 == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert ref.uri == f"{store.root}/sha256/2c/{ref.sha256[2:]}"
    assert store.get(ref).read_bytes() == store.read_bytes(ref) == b"hello"
    (tmp_path / "file").write_bytes(b"hello")
    assert store.put_file(tmp_path / "file") == ref
    assert not list(tmp_path.rglob("aside/*"))


def test_folder_comes_back_whole(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("a")
    (tmp_path / "in" / "deep" / "b.txt").write_text("b")
    files = store.put_directory(tmp_path / "in")
    assert sorted(files) == ["a.txt", "deep/b.txt"]
    out = store.materialise(files, tmp_path / "out" / "model")
    assert (out / "deep" / "b.txt").read_text() == "b"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model"]


def test_folder_with_a_missing_file_does_not_appear(store: ArtifactStore, tmp_path: Path) -> None:
    good = store.put_bytes(b"a")
    missing = ArtifactRef(uri=f"{store.root}/sha256/00/{'0' * 62}", sha256="0" * 64, bytes=1)
    with pytest.raises(ArtifactMissing):
        store.materialise({"a": good, "b": missing}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("content", [b"hellp", b"hello and more"])
def test_changed_content_is_noticed(tmp_path: Path, content: bytes) -> None:
    store = ArtifactStore((tmp_path / "store").as_uri(), tmp_path / "cache")
    ref = store.put_bytes(b"hello")
    path = store.get(ref)
    path.chmod(0o644)
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match="restore it"):
        store.get(ref)


def test_references_outside_the_roots_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    ref = store.put_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    for uri in (
        (tmp_path / "secret").as_uri(),
        f"{store.root}/../secret",
        f"{store.root}/%2e%2e/secret",
        "file:///etc/passwd",
        "http://example.org/x",
        f"{store.root}x/secret",
    ):
        with pytest.raises(ArtifactRefused):
            store.get(ref.model_copy(update={"uri": uri}))


def test_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore((tmp_path / "store").as_uri(), tmp_path / "cache")
    ref = store.put_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "store" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactRefused):
        store.get(ref.model_copy(update={"uri": f"{store.root}/link"}))


def test_further_root_is_read_but_not_written(tmp_path: Path) -> None:
    other = ArtifactStore((tmp_path / "other").as_uri(), tmp_path / "cache")
    ref = other.put_bytes(b"x")
    store = ArtifactStore((tmp_path / "store").as_uri(), tmp_path / "cache", (other.root,))
    assert store.get(ref).read_bytes() == b"x"
    assert store.put_bytes(b"y").uri.startswith(store.root)


@pytest.mark.parametrize("name", ["", ".", "/etc/passwd", "../x", "a/../../x", "a\\b", "a\x00b"])
def test_names_that_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(ArtifactRefused):
        safe_name(name)


def test_read_bytes_has_a_limit(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactRefused, match="at most 3"):
        store.read_bytes(store.put_bytes(b"hello"), limit=3)


def test_local_copies_that_nobody_wanted_for_long_are_forgotten_and_brought_again(tmp_path: Path) -> None:
    store = ArtifactStore("memory:///bucket", tmp_path / "cache")
    old, wanted = store.put_bytes(b"old"), store.put_bytes(b"wanted")
    before = datetime.now(UTC)
    for ref in (old, wanted):
        path = store.get(ref)
        os.utime(path, (1, path.stat().st_mtime))
    store.get(wanted)
    assert store.forget_cached(before) == 1
    left = [path.name for path in (tmp_path / "cache" / "sha256").rglob("*") if path.is_file()]
    assert left == [wanted.sha256[2:]]
    assert store.read_bytes(old) == b"old"
