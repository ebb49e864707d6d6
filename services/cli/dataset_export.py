"""Writes a dataset into a folder that `datasets.load_dataset` reads. The folder appears whole, every file as prep froze it."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli import api, dataset_card
from services.cli.errors import ConsoleError, Usage

if TYPE_CHECKING:
    import httpx

CARD, METADATA, REPORT = "README.md", "croissant.json", "report.html"
SECONDS = 600.0
"""Of silence until a download counts as lost: prep checks a file's digest before it sends it."""


def export(project: str, number: int, folder: Path, force: bool) -> dict[str, Any]:
    """Writes the folder; the dataset as prep tells of it.

    Raises:
        Usage: `folder_not_empty`: the folder holds something, and is no earlier export or `force` is not given.
        ConsoleError: `file_altered`: what came is not what the dataset names; or as services/cli/api.py.
    """
    check(folder, force)
    path = f"/v1/datasets/{project}/{number}"
    dataset: dict[str, Any] = api.get("prep", path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        (aside / "data").mkdir(parents=True)
        with api.client("prep", SECONDS) as http:
            for split in dataset_card.SPLITS:
                download(http, f"{path}/files/{split}", aside / dataset_card.path_of(split), dataset["files"][split])
            report = http.get(f"{path}/report")
            if report.is_success:
                (aside / REPORT).write_bytes(report.content)
        (aside / CARD).write_text(dataset_card.readme(dataset))
        metadata = dataset_card.croissant(dataset, columns(aside))
        (aside / METADATA).write_text(json.dumps(metadata, ensure_ascii=False, indent=1) + "\n")
        replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return dataset


def check(folder: Path, force: bool) -> None:
    """Raises Usage where the folder may not be written."""
    if folder.is_file():
        raise Usage("folder_not_empty", f"{folder} is a file; name a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not ((folder / CARD).is_file() and (folder / METADATA).is_file()):
        raise Usage("folder_not_empty", f"{folder} holds something that no export wrote; name another folder")
    if not force:
        raise Usage("folder_not_empty", f"{folder} holds an earlier export; --force puts this one in its place")


def download(http: "httpx.Client", path: str, target: Path, ref: Mapping[str, Any]) -> None:
    """A file from prep, with the size and digest that the dataset names."""
    sha = hashlib.sha256()
    with http.stream("GET", path) as answer, target.open("wb") as file:
        if not answer.is_success:
            answer.read()
            api.checked("prep", answer)
        for chunk in answer.iter_bytes():
            sha.update(chunk)
            file.write(chunk)
    if sha.hexdigest() != ref["sha256"]:
        raise ConsoleError("file_altered", f"{path} came with the digest {sha.hexdigest()}, not {ref['sha256']}")


def columns(folder: Path) -> dict[str, list[str]]:
    """The columns of each split's file."""
    from pyarrow import parquet

    return {split: parquet.read_schema(folder / dataset_card.path_of(split)).names for split in dataset_card.SPLITS}


def replace(aside: Path, folder: Path) -> None:
    """Puts `aside` in the folder's place; an earlier export goes once this one stands."""
    if folder.is_dir() and any(folder.iterdir()):
        old = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
        folder.rename(old)
        aside.rename(folder)
        shutil.rmtree(old)
        return
    aside.replace(folder)
