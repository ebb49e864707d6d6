"""The house is as its plan says: the import linter's lists are the folders."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTRACTS = {
    c["name"]: c for c in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
SHARED = {"services.chassis", "services.lm"}
SERVICES = {f"services.{path.parent.name}" for path in (ROOT / "services").glob("*/__init__.py")} - SHARED


def test_every_service_is_independent() -> None:
    assert set(CONTRACTS["services never import each other"]["modules"]) == SERVICES


def test_every_service_has_its_layer() -> None:
    layers = CONTRACTS["contracts <- chassis, lm <- services <- compose.local <- cli"]["layers"]
    assert {name.strip() for layer in layers for name in layer.split("|")} == {
        *SERVICES,
        *SHARED,
        "compose.local",
        "contracts",
    }


def test_every_service_with_handlers_keeps_its_rooms() -> None:
    with_handlers = {name for name in SERVICES if (ROOT / name.replace(".", "/") / "handlers.py").is_file()}
    pure = CONTRACTS["handlers and domain import no framework"]["source_modules"]
    assert set(pure) == {f"{name}.{room}" for name in with_handlers for room in ("domain", "handlers")}
    rooms = CONTRACTS["inside a service: app -> handlers | http | worker -> store -> domain"]["containers"]
    assert set(rooms) == with_handlers


def test_wings_of_the_chassis_are_small() -> None:
    for wing in [path for path in (ROOT / "services" / "chassis").iterdir() if (path / "__init__.py").is_file()]:
        assert len(list(wing.glob("*.py"))) <= 12, f"{wing.name} wants wings"
