"""Brings a database's tables to their newest revision. Knows no table.

Run as a program it does so for the database that standard input names: a service lets it, rather than keep Alembic in
its memory (some 16 MB) for as long as it lives.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from services.chassis.storage.database import DatabaseAway, is_database_fault, lock, open_database, reading, writing

MIGRATIONS = Path(__file__).parent / "migrations"
LEASE_SECONDS = 20.0
"""A migration whose process stands still is ended after some of these; one that works is not (see `upgrade`)."""


class MigrationFailed(Exception):
    """The scripts do not fit the database."""


def migrate(engine: Engine, schema: str, *folders: Path) -> None:
    """Brings the tables of the chassis and of `folders` (Alembic scripts) to their newest revision, under a lock.

    What was brought there by the same scripts is left alone without loading Alembic: a start shall be quick and small.
    """
    scripts = fingerprint(*folders)
    if not is_migrated(engine, scripts):
        upgrade(engine, schema, _locations(*folders), scripts)


def migrate_aside(engine: Engine, schema: str, *folders: Path) -> None:
    """The same, where there is something to do by a process of its own.

    Raises:
        DatabaseAway: it could not reach the database.
        MigrationFailed: anything else.
    """
    if is_migrated(engine, fingerprint(*folders)):
        return
    url = engine.url.render_as_string(hide_password=False)
    task = json.dumps({"url": url, "schema": schema, "folders": list(map(str, folders))})
    command = [
        sys.executable,
        "-m",
        "services.chassis.storage.migration",
    ]  # the URL, with its password, on no command line
    done = subprocess.run(command, input=task, capture_output=True, text=True, check=False)
    if done.returncode:
        raise (DatabaseAway if done.returncode == os.EX_TEMPFAIL else MigrationFailed)(done.stderr.strip()[-2000:])


def main() -> None:
    """Migrates the database of standard input; exit status EX_TEMPFAIL where it is away, locked or full."""
    task = json.loads(sys.stdin.read())
    try:
        engine = open_database(task["url"], task["schema"], LEASE_SECONDS)
        migrate(engine, task["schema"], *map(Path, task["folders"]))
    except DBAPIError as error:
        sys.stderr.write(str(error))
        sys.exit(os.EX_TEMPFAIL if is_database_fault(error) else 1)


def _locations(*folders: Path) -> Sequence[Path]:
    return [MIGRATIONS / "versions", *(folder / "versions" for folder in folders)]


def fingerprint(*folders: Path) -> str:
    """The digest of all scripts."""
    digest = sha256()
    for script in sorted(script for folder in _locations(*folders) for script in folder.glob("*.py")):
        digest.update(script.name.encode() + b"\0" + script.read_bytes() + b"\0")
    return digest.hexdigest()


def is_migrated(engine: Engine, scripts: str) -> bool:
    """Whether the tables are what the scripts of this digest made."""
    try:
        with reading(engine) as connection:
            return connection.execute(text("SELECT scripts FROM migrated")).scalar() == scripts
    except DBAPIError as error:
        if is_database_fault(error):
            raise
        return False  # no such table yet


def upgrade(engine: Engine, schema: str, locations: Sequence[Path], scripts: str) -> None:
    """Runs what is missing of the scripts, in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(str(path) for path in locations))
    with writing(engine) as connection:
        lock(connection, f"noria.{schema}")
        if connection.dialect.name == "postgresql":
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
            unlimited = "SELECT set_config('transaction_timeout', '0', true) FROM pg_settings WHERE name = 'transaction_timeout'"
            connection.execute(text(unlimited))
        config.attributes["connection"] = connection
        command.upgrade(config, "heads")
        connection.execute(text("DELETE FROM migrated"))
        connection.execute(text("INSERT INTO migrated (scripts) VALUES (:scripts)"), {"scripts": scripts})


if __name__ == "__main__":
    main()
