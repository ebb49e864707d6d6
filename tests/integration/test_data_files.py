"""What `datasets` and `pandas` write is read as it is, by the one reader; a dataset of the hub by the datasets library."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from services.chassis.rows.reading import rows
from services.ingestion.domain.items import submitted
from services.ingestion.domain.validation import validated
from tests.integration import client_environments

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "clients" / "data_files_client.py"
READ_HUB = "import sys; from services.chassis.rows.hub import hub_rows; [print(r.json.decode()) for r in hub_rows(sys.argv[1])]"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    python = client_environments.python("data-files")
    subprocess.run([python, SCRIPT, folder], check=True, timeout=300, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return sorted(folder.iterdir())


def test_every_file_holds_the_same_records(files: list[Path]) -> None:
    chats, pairs = [], []
    for path in files:
        sent = [submitted("p", json.loads(row.json)) for row in rows(path)]
        assert len(sent) == 3, path.name
        (chats if "messages" in sent[0].record else pairs).append({validated(each).digest for each in sent})
    assert (len(chats), len(pairs)) == (7, 8)
    for found in (chats, pairs):
        assert found == [found[0]] * len(found)
        assert len(found[0]) == 1


def hub(address: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The reader of hf:// addresses where the datasets library is installed, and no network is."""
    command = [str(client_environments.python("data-files")), "-c", READ_HUB, address]
    away = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **away}, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_datasets_library_streams_a_dataset_by_its_name(tmp_path: Path) -> None:
    """The library takes a folder of the name for the dataset itself: the same call, without a hub."""
    (tmp_path / "acme" / "faq").mkdir(parents=True)
    (tmp_path / "acme" / "faq" / "train.jsonl").write_text(
        '{"prompt": "q", "completion": null}\n{"prompt": "r", "completion": "a"}\n'
    )
    read = hub("hf://acme/faq", tmp_path)
    assert [json.loads(line) for line in read.stdout.splitlines()] == [
        {"prompt": "q"},
        {"prompt": "r", "completion": "a"},
    ]
    away = hub("hf://acme/nowhere:train", tmp_path)
    assert away.returncode != 0
    assert "see that the hub can be reached" in away.stderr.splitlines()[-1]
