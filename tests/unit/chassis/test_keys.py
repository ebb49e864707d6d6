import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.chassis.http import keys
from services.chassis.http.keys import (
    KeyRing,
    KeysUnreadable,
    change,
    generate,
    is_loopback,
    read,
    start_refusal,
)

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "api-keys.json"


def made(file: Path, *projects: str) -> str:
    key, token = generate(["read", "submit"], projects or None, "for tests", NOW)
    change(file, lambda found: [*found, key])
    return token


def revoke(file: Path) -> None:
    change(file, lambda found: [key.model_copy(update={"revoked_at": NOW}) for key in found])


def test_a_key_is_found_by_itself_alone(file: Path) -> None:
    token, other = made(file, "shop"), made(file)
    ring = KeyRing(file)
    assert (key := ring.find(token.encode()))
    assert (key.id, key.scopes, key.projects) == (token.split("_")[1], {"read", "submit"}, {"shop"})
    mixed = "_".join([*token.split("_")[:2], other.split("_", 2)[2]])
    for wrong in (
        mixed,
        token[:-1],
        token + "x",
        token.upper(),
        token.replace("noria", "sk"),
        "",
        "noria__",
        "é" * 300,
    ):
        assert ring.find(wrong.encode()) is None


def test_only_digests_lie_in_a_file_that_only_its_owner_reads(file: Path) -> None:
    token = made(file)
    text = file.read_text()
    assert token not in text
    assert token.split("_", 2)[2] not in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in file.parent.iterdir() if p.name.startswith(".")] == []


def test_what_is_written_is_read_again(file: Path) -> None:
    key, _ = generate(["infer"], ["a", "b"], "who", NOW)
    change(file, lambda _: [key])
    assert read(file) == (key,)
    assert read(file.with_name("none.json")) == ()


def test_writers_wait_for_each_other(file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: made(file), range(40)))
    ring = KeyRing(file)
    assert all(ring.find(token.encode()) for token in tokens)


@pytest.mark.parametrize("content", ["", "[]", '{"keys": [{}]}', '{"keys": [], "more": 1}'])
def test_a_broken_file_is_told_without_its_content(file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(KeysUnreadable, match=r"api-keys\.json"):
        read(file)
    with pytest.raises(KeysUnreadable):
        change(file, lambda found: found)
    assert file.read_text() == content


def test_a_change_is_seen_and_a_fault_changes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LOOK_SECONDS", 0.0)
    ring = KeyRing(file)
    assert (ring.any, ring.active) == (False, False)
    token = made(file)
    ring.refresh()
    assert ring.find(token.encode())
    kept = file.read_bytes()
    file.write_text("{")
    ring.refresh()
    assert ring.find(token.encode())
    file.unlink()
    ring.refresh()
    assert ring.find(token.encode())
    file.write_bytes(kept)
    revoke(file)
    ring.refresh()
    assert ring.find(token.encode()) is None
    assert (ring.any, ring.active) == (True, False)


def test_the_file_is_looked_at_once_in_a_while(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(file)
    token = made(file)
    ring.refresh()
    assert ring.find(token.encode()) is None
    later = ring._looked + keys.LOOK_SECONDS  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(keys.time, "monotonic", lambda: later)
    ring.refresh()
    assert ring.find(token.encode())


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - nothing listens there
        ("::", False),
        ("10.0.0.7", False),
        ("", False),
        ("noria.example.org", False),
    ],
)
def test_who_reaches_an_address(host: str, alone: bool, file: Path) -> None:
    assert is_loopback(host) is alone
    assert (start_refusal(host, file) is None) is alone
    made(file)
    assert start_refusal(host, file) is None
    revoke(file)
    assert (start_refusal(host, file) is None) is alone


def test_a_refusal_says_what_to_do(file: Path) -> None:
    why = start_refusal("10.0.0.7", file) or ""
    assert "noria keys create" in why
    assert str(file) in why
