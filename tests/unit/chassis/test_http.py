import sqlite3
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, create_engine, text

from services.chassis.http.application import install_errors


def client(engine: Engine, statement: str, **values: Any) -> TestClient:
    app = FastAPI()
    install_errors(app)

    @app.get("/")
    def answer() -> list[Any]:
        with engine.begin() as connection:
            return [list(row) for row in connection.execute(text(statement), values)]

    return TestClient(app)


def test_a_value_that_the_database_cannot_hold_is_the_requests_fault(engine: Engine) -> None:
    found = client(engine, "SELECT number FROM note WHERE text = :text", text="\x00").get("/")
    expected = (422, "invalid_request") if engine.dialect.name == "postgresql" else (200, None)
    assert (found.status_code, (found.json() and found.json()["error"]["code"]) or None) == expected


def test_a_locked_database_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as holder:
        holder.execute("CREATE TABLE t (x)")
        holder.execute("BEGIN EXCLUSIVE")
        engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
        found = client(engine, "INSERT INTO t VALUES (1) RETURNING x").get("/")
    assert (found.status_code, found.json()["error"]["code"]) == (503, "database_unavailable")
    assert found.headers["retry-after"] == "2"


def test_a_wrong_statement_stays_a_fault_of_ours(engine: Engine) -> None:
    with pytest.raises(Exception, match="nowhere"):
        client(engine, "SELECT * FROM nowhere").get("/")
