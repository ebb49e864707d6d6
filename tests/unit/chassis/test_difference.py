"""What a comparison of two databases finds, and that handlers are deterministic."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.chassis.replay.difference import Difference, differences
from services.chassis.replay.restore import Restore
from services.chassis.storage.database import open_sqlite, writing

ROOT = Path(__file__).parents[3]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """Two databases with the same rows."""
    both = tuple(open_sqlite(f"sqlite:///{tmp_path / name}", "OFF") for name in ("live.db", "rebuilt.db"))
    for engine in both:
        with writing(engine) as c:
            c.execute(text("CREATE TABLE thing (a TEXT, b INTEGER, body JSON, PRIMARY KEY (a, b))"))
            c.execute(text("CREATE TABLE step (id INTEGER PRIMARY KEY, name TEXT, n INTEGER)"))
            c.execute(text("CREATE TABLE inbox (id TEXT PRIMARY KEY)"))
            c.execute(text("""INSERT INTO thing VALUES ('x', 1, '{"k": 1, "deep": {"l": 2}}')"""))
            c.execute(text("INSERT INTO step VALUES (1, 'one', 1)"))
    yield both[0], both[1]
    for engine in both:
        engine.dispose()


def change(engine: Engine, *statements: str) -> None:
    with writing(engine) as c:
        for statement in statements:
            c.exec_driver_sql(statement)


def test_equal_databases_differ_in_nothing(pair: tuple[Engine, Engine]) -> None:
    change(pair[0], "INSERT INTO inbox VALUES ('only here')")
    assert differences(*pair, Restore()) == []


def test_rows_that_share_a_key_are_all_compared(pair: tuple[Engine, Engine]) -> None:
    change(pair[0], "INSERT INTO step VALUES (2, 'one', 2)")
    [found] = differences(*pair, Restore(keys={"step": ("name",)}))
    assert (found.table, found.key, found.column, found.rebuilt) == ("step", "one/#2", None, None)


def test_changed_value_is_named_by_table_key_and_place(pair: tuple[Engine, Engine]) -> None:
    change(pair[0], """UPDATE thing SET body = '{"k": 1, "deep": {"l": 3}}'""")
    assert differences(*pair, Restore()) == [Difference("thing", "x/1", "body.deep.l", 3, 2)]
    assert differences(*pair, Restore(omitted={"thing.body.deep": "why"})) == []
    assert differences(*pair, Restore(omitted={"thing": "why"})) == []
    assert differences(*pair, Restore(omitted={"thing.body.dee": "another name"})) != []


def test_row_of_one_side_alone_is_shown_whole(pair: tuple[Engine, Engine]) -> None:
    change(pair[1], "INSERT INTO thing VALUES ('y', 2, NULL)")
    assert differences(*pair, Restore()) == [Difference("thing", "y/2", None, None, {"a": "y", "b": 2, "body": None})]
    unkept = Restore(omitted_rows={"thing": ("a", ("y",), "why")})
    assert differences(*pair, unkept) == []


def test_running_number_tells_no_rows_apart_where_other_keys_are_given(pair: tuple[Engine, Engine]) -> None:
    change(pair[0], "UPDATE step SET id = 7")
    assert len(differences(*pair, Restore())) == 2
    assert differences(*pair, Restore(keys={"step": ("name",)}, omitted={"step.id": "a running number"})) == []


CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "uuid1", "uuid4", "random", "randint", "choice"}


def called(path: Path) -> set[str]:
    """The names of clocks and sources of chance that a module calls."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {f.attr if isinstance(f, ast.Attribute) else f.id for f in calls if isinstance(f, ast.Attribute | ast.Name)}
    return names & CLOCKS


def pure() -> list[Path]:
    services = ROOT / "services"
    places = (
        "*/handlers.py",
        "*/restore.py",
        "*/domain/**/*.py",
        "*/store.py",
        "registry/transitions.py",
        "registry/projects.py",
    )
    return sorted(path for place in places for path in services.glob(place))


@pytest.mark.parametrize("path", pure(), ids=lambda p: str(p.relative_to(ROOT)))
def test_handlers_rules_and_stores_ask_no_clock_and_no_chance(path: Path) -> None:
    assert called(path) == set(), f"{path.relative_to(ROOT)}: take it from the event"


def test_a_clock_would_be_found(tmp_path: Path) -> None:
    module = tmp_path / "handlers.py"
    module.write_text("from datetime import datetime\nimport uuid\nx = datetime.now(), uuid.uuid4()\n")
    assert called(module) == {"now", "uuid4"}
