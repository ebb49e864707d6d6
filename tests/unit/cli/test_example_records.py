"""The example's parser, loaded from docs/examples as a person runs it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[3] / "docs" / "examples" / "shell-copilot" / "records.py"

PAGE = """# tar

extract an archive

    tar -xf a.tar

two commands are no answer:

    tar -cf a.tar b
    tar -tf a.tar

names another tool

    gzip a

show a session:

    $ tar -tf a.tar
    b
"""


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shell_copilot_records", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_command_that_names_the_tool_is_a_pair(example: ModuleType) -> None:
    assert list(example.pairs("tar", PAGE)) == [
        ("extract an archive", "tar -xf a.tar"),
        ("show a session", "tar -tf a.tar"),
    ]


def test_long_command_is_left_out(example: ModuleType) -> None:
    assert list(example.pairs("tar", f"# tar\n\nlong\n\n    tar {'x' * 120}\n")) == []


def test_last_sentence_of_a_long_description_is_kept(example: ModuleType) -> None:
    assert example.description_of(f"{'word ' * 30}ends. List the files:") == "List the files"


def test_record_has_identity_tag_and_two_turns(example: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "tar.md").write_text(PAGE)
    first, second = example.records(tmp_path)
    assert (first["record_id"], second["record_id"]) == ("eg-00000", "eg-00001")
    assert first["tags"] == {"tool": "tar"}
    assert first["record"]["messages"] == [
        {"role": "user", "content": "tar: extract an archive"},
        {"role": "assistant", "content": "tar -xf a.tar"},
    ]
