"""`noria keys`: make, list and revoke the API keys of this machine's services, in their file. Calls no service."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from services.cli.addresses import settings
from services.cli.errors import ConsoleError, Usage
from services.cli.output import AsJson, clock, note, show, table

if TYPE_CHECKING:
    from services.chassis.http.keys import Key, Scope

app = typer.Typer(help="API keys: who may call the services, and for what.", no_args_is_help=True)


@app.command("create")
def create(
    scope: Annotated[list[str], typer.Option("--scope", help="What it may; give it several times for several.")],
    project: Annotated[
        list[str] | None, typer.Option("--project", help="Only of this project; may be given again.")
    ] = None,
    text: Annotated[str, typer.Option("--note", help="Whose it is and what for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it, once: only its digest is kept. With the first one, keys are required."""
    from services.chassis.http.keys import SCOPES, change, generate

    if unknown := sorted(set(scope) - set(SCOPES)):
        raise Usage("unknown_scope", f"{unknown[0]!r} is no scope; there are: {', '.join(SCOPES)}")
    key, token = generate(cast("list[Scope]", scope), project or None, text, datetime.now(UTC))
    file = settings().api_keys_file
    with _told():
        change(file, lambda keys: [*keys, key])
    note(f"key {key.id} is in force within a second; nobody can show it again")
    show(_document(key) | {"key": token, "file": str(file)}, as_json, lambda: token)


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the API keys, revoked ones too, without their secrets."""
    from services.chassis.http.keys import read

    with _told():
        found = [_document(key) for key in read(settings().api_keys_file)]
    columns = {
        "id": lambda r: r["id"],
        "scopes": lambda r: ", ".join(r["scopes"]),
        "projects": lambda r: "all" if r["projects"] is None else ", ".join(r["projects"]),
        "note": lambda r: r["note"],
        "created": lambda r: clock(r["created_at"]),
        "revoked": lambda r: clock(r["revoked_at"]) if r["revoked_at"] else None,
    }
    empty = "there are no API keys; whoever reaches 127.0.0.1 may do everything"
    show({"items": found, "next": None}, as_json, lambda: table(found, columns, empty))


@app.command("revoke")
def revoke(
    id: Annotated[str, typer.Argument(help="The key's id, as `noria keys list` shows it.")], as_json: AsJson = False
) -> None:
    """Revoke an API key for good; the services refuse it within a second."""
    from services.chassis.http.keys import change, read

    file, now = settings().api_keys_file, datetime.now(UTC)

    def revoked(keys: "tuple[Key, ...]") -> "list[Key]":
        if id not in (key.id for key in keys):
            raise ConsoleError("unknown_key", f"there is no API key {id!r} in {file}; see `noria keys list`")
        return [k.model_copy(update={"revoked_at": now}) if k.id == id and k.revoked_at is None else k for k in keys]

    with _told():
        change(file, revoked)
        [key] = [key for key in read(file) if key.id == id]
    show(_document(key), as_json, lambda: f"{id} is revoked")


def _document(key: "Key") -> dict[str, Any]:
    return key.model_dump(mode="json", exclude={"sha256"})


@contextmanager
def _told() -> Generator[None]:
    from services.chassis.http.keys import KeysUnreadable

    try:
        yield
    except (KeysUnreadable, OSError) as error:
        raise ConsoleError("keys_unreadable", str(error)) from error
