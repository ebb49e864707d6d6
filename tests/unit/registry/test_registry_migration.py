"""What was defined and trained before prompts had numbers has them afterwards."""

import json
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlmodel import Session

from contracts.project import ProjectSpec
from services.chassis.storage import migration
from services.chassis.storage.database import open_engine, reading, writing
from services.registry.settings import RegistrySettings
from services.registry.store import SqlStore
from tests.unit.registry.builders import PROJECT, trained
from tests.unit.registry.conftest import MIGRATIONS

REVISION = """INSERT INTO project_revision (project, revision, spec, defined_at, sequence)
VALUES (:project, :revision, :spec, '2026-01-31 12:00:00+00:00', :sequence)"""
VERSION = """INSERT INTO model_version (name, version, run_id, stage, detail, failed, trained, created_at)
VALUES (:name, 1, 'run-1', 'production', '', '[]', :trained, '2026-01-31 12:00:00+00:00')"""


def test_what_is_there_is_counted_in_the_order_of_the_definitions(database_url: str, tmp_path: Path) -> None:
    settings = RegistrySettings(home=tmp_path, database=database_url)
    engine = open_engine(settings)
    config = Config()
    config.set_main_option("script_location", str(migration.MIGRATIONS))
    config.set_main_option("path_separator", "newline")
    folders = [migration.MIGRATIONS / "versions", MIGRATIONS / "versions"]
    config.set_main_option("version_locations", "\n".join(map(str, folders)))
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS registry"))
        config.attributes["connection"] = connection
        command.upgrade(config, "registry_0002")
        command.upgrade(config, "chassis_retired")
        for sequence, system in enumerate((None, "A.", None), 1):
            spec = ProjectSpec.model_validate({"project": PROJECT, "base": "b", "prompt": {"system": system}})
            values = {"project": PROJECT, "revision": str(sequence) * 64, "spec": spec.model_dump_json()}
            connection.execute(text(REVISION), values | {"sequence": 10 - sequence})
        told = trained("run-1", "3" * 64).model_dump(mode="json")
        connection.execute(text(VERSION), {"name": PROJECT, "trained": json.dumps(told)})
        command.upgrade(config, "heads")
    with reading(engine) as connection, Session(connection) as session:
        store = SqlStore(session)
        found = [(p.number, p.prompt.system, p.revision[0]) for p in store.prompts(PROJECT, 9)]
        assert found == [(2, "A.", "2"), (1, None, "3")]
        version = store.version(PROJECT, 1)
        assert version is not None
        assert (version.prompt_version, version.weights_of) == (1, None)
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "registry_0002")
        command.upgrade(config, "heads")
    engine.dispose()
