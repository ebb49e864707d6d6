"""docs/architecture.md names every module of the chassis and of services/lm where it says what stands there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
CHASSIS = PAGE[PAGE.index("## The chassis") : PAGE.index("`services/lm/` is the same")]
LM = PAGE[PAGE.index("`services/lm/` is the same") : PAGE.index("## What the chassis guarantees")]


def modules(folder: str) -> set[str]:
    """The modules in a folder itself."""
    return {path.stem for path in (ROOT / "services" / folder).glob("*.py")} - {"__init__"}


def named(text: str) -> set[str]:
    """What stands in backticks."""
    return {name.removesuffix(".py") for name in re.findall(r"`([a-z_]+(?:\.py)?)`", text)}


def test_the_door_is_complete() -> None:
    door = CHASSIS[: CHASSIS.index("| wing |")]
    assert named(door) == modules("chassis")


def test_every_wing_has_its_line_with_all_its_modules() -> None:
    lines = {line.split("`")[1].rstrip("/"): line for line in CHASSIS.splitlines() if line.startswith("| `")}
    wings = {path.parent.name for path in (ROOT / "services" / "chassis").glob("*/__init__.py")}
    assert set(lines) == wings
    for wing, line in lines.items():
        folders = [path.parent for path in (ROOT / "services" / "chassis" / wing).rglob("__init__.py")]
        there = {name for folder in folders for name in modules(str(folder.relative_to(ROOT / "services")))}
        assert named(line) == there, wing


def test_every_module_of_lm_is_named() -> None:
    lines = [line for line in LM.splitlines() if line.startswith("| `")]
    wings = {line.split("`")[1].rstrip("/"): named(line) for line in lines if "/`" in line}
    assert named("\n".join(line for line in lines if "/`" not in line)) == modules("lm")
    assert wings == {wing: modules(f"lm/{wing}") for wing in wings}
    assert set(wings) == {path.parent.name for path in (ROOT / "services" / "lm").glob("*/__init__.py")}


def test_the_modules_that_import_torch_are_named() -> None:
    importing = {
        path.stem
        for path in (ROOT / "services" / "lm").glob("*.py")
        if re.search(r"^(?:import|from) torch\b", path.read_text(), re.MULTILINE)
    }
    sentence = LM[LM.index("Only `") : LM.index(" import torch at")]
    assert named(sentence) == importing
