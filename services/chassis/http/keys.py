"""API keys: what each may do, the file that holds their digests, and how one is found in it. Knows no HTTP.

A key is `noria_<id>_<secret>`. The secret has 256 random bits, so nobody guesses it from its digest and one round of
SHA-256 suffices; the slow hashes (bcrypt, argon2) are for passwords, which people choose, and would cost each request
what they cost a guesser. The id is no secret: it names the key in lists and logs.
"""

import fcntl
import hashlib
import hmac
import ipaddress
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_serializer

from services.chassis.errors import NoriaError

LOG: Any = structlog.get_logger("keys")
Scope = Literal["submit", "read", "feedback", "operate", "approve", "infer"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
LOOK_SECONDS = 1.0
"""A change of the file takes effect within so long."""
_LONGEST = 200
_NO_DIGEST = "0" * 64


class KeysUnreadable(NoriaError):
    """The file of keys cannot be read; the message names it."""


class Key(BaseModel):
    """A key as the file holds it. `projects` None: all of them; `sha256` is the hex digest of the whole key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: frozenset[Scope]
    projects: frozenset[str] | None = None
    note: str = ""
    created_at: AwareDatetime
    revoked_at: AwareDatetime | None = None

    @field_serializer("scopes", "projects")
    def _in_order(self, values: frozenset[str] | None) -> list[str] | None:
        return None if values is None else sorted(values)


class KeyFile(BaseModel):
    """The file's content. A revoked key stays, so that its id says for ever whose it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...] = ()


def generate(scopes: Iterable[Scope], projects: Iterable[str] | None, note: str, now: datetime) -> tuple[Key, str]:
    """A new key: what the file holds of it, and the key itself, which nobody sees again."""
    id = secrets.token_hex(4)
    token = f"noria_{id}_{secrets.token_urlsafe(32)}"
    named = None if projects is None else frozenset(projects)
    digest = hashlib.sha256(token.encode()).hexdigest()
    return Key(id=id, sha256=digest, scopes=frozenset(scopes), projects=named, note=note, created_at=now), token


def read(path: Path) -> tuple[Key, ...]:
    """The keys of a file; none where it does not exist.

    Raises:
        KeysUnreadable: it cannot be read or is no file of keys.
    """
    try:
        return KeyFile.model_validate_json(path.read_bytes()).keys
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        # The errors of pydantic would repeat digests; the place of the first suffices.
        where = error.errors()[0]["loc"] if isinstance(error, ValidationError) else error
        raise KeysUnreadable(f"the file of API keys {path} cannot be read: {where}") from None


def change(path: Path, by: Callable[[tuple[Key, ...]], Sequence[Key]]) -> None:
    """Writes what `by` makes of the file's keys, whole or not at all, mode 0600; two at once wait for each other.

    Raises:
        KeysUnreadable: it cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = KeyFile(keys=tuple(by(read(path)))).model_dump_json(indent=2)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as aside:
            aside.write(content + "\n")  # mkstemp makes it 0600
            aside.flush()
            os.fsync(aside.fileno())
        Path(aside.name).replace(path)


class KeyRing:
    """The keys of a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = _state(path)
        self._looked = time.monotonic()
        self._take(read(path))

    def _take(self, keys: tuple[Key, ...]) -> None:
        self.any = bool(keys)
        self._active = {key.id: key for key in keys if key.revoked_at is None}

    @property
    def active(self) -> bool:
        """Whether some key opens."""
        return bool(self._active)

    def refresh(self) -> None:
        """Looks at the file, at most once in LOOK_SECONDS. One that vanished or cannot be read changes nothing."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked, state = now, _state(self._path)
        if state is None or state == self._state:
            return
        self._state = state
        try:
            self._take(read(self._path))
        except KeysUnreadable as error:
            LOG.error("the keys as they were last read stay in force", detail=str(error))

    def find(self, token: bytes) -> Key | None:
        """The active key that `token` is, or None."""
        parts = token.split(b"_", 2)
        if len(token) > _LONGEST or len(parts) != 3 or parts[0] != b"noria":
            return None
        key = self._active.get(parts[1].decode("latin-1"))
        digest = hashlib.sha256(token).hexdigest()
        same = hmac.compare_digest(digest, key.sha256 if key else _NO_DIGEST)
        return key if same else None


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name other than localhost is taken for one that others reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def start_refusal(host: str, path: Path) -> str | None:
    """Why nothing may listen on `host` with the keys of `path`; None where it may.

    Raises:
        KeysUnreadable: the file cannot be read.
    """
    if is_loopback(host) or any(key.revoked_at is None for key in read(path)):
        return None
    return (
        f"{host} is reached from other machines, and {path} holds no active API key: make one with "
        "`noria keys create --scope ...`, or let NORIA_HOST be 127.0.0.1"
    )
