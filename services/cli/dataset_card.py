"""What stands beside an exported dataset's files: a Hugging Face card and Croissant metadata. Reads and writes nothing.

Card: https://huggingface.co/docs/hub/datasets-cards and .../datasets-manual-configuration; metadata: Croissant 1.0,
https://docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

from collections.abc import Mapping
from typing import Any

import yaml

SPLITS = {"train": "train", "validation": "validation", "held_out": "test"}
"""A split's name in Noria -> what the libraries call it."""
COLUMNS = {
    "record_id": ("sc:Text", "The record's identity within its project, chosen by whoever submitted it"),
    "revision": ("sc:Integer", "How often the record had been replaced, from 1 on"),
    "format": ("sc:Text", "Which of the record formats that TRL documents `record` is of"),
    "record": ("sc:Text", "The record as JSON"),
    "digest": ("sc:Text", "SHA-256 of `record`"),
    "prompt_key": ("sc:Text", "SHA-256 of the normalised prompt: one for all records that ask the same"),
    "tags": ("sc:Text", "The record's tags as a JSON object"),
    "subject": ("sc:Text", "The person whom the record is about, where known"),
    "accepted_at": ("sc:DateTime", "When the record was accepted"),
}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def path_of(split: str) -> str:
    """Where a split's file lies in an export."""
    return f"data/{SPLITS[split]}-00000-of-00001.parquet"


def readme(dataset: Mapping[str, Any]) -> str:
    """The card of a dataset as prep tells of it: a YAML header that `load_dataset` reads, and what a person wants to know.

    A split without rows is not named to `load_dataset`, which fails on a file without any.
    """
    files = [{"split": SPLITS[split], "path": path_of(split)} for split in SPLITS if dataset["counts"].get(split)]
    total = sum(dataset["counts"].values())
    header = {
        "pretty_name": f"{dataset['project']} {dataset['number']}",
        "size_categories": [size(total)],
        "tags": ["noria"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    counts = "\n".join(f"| {SPLITS[split]} | {dataset['counts'].get(split, 0):,} |" for split in SPLITS)
    drops = ", ".join(f"{n:,} {reason}" for reason, n in dataset["drops"].items()) or "none"
    columns = "\n".join(f"| `{name}` | {meaning} |" for name, (_, meaning) in COLUMNS.items())
    return f"""---
{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---

# {dataset["project"]}, dataset {dataset["number"]}

Frozen by Noria on {dataset["frozen_at"]} for revision `{dataset["project_revision"]}` of the project.
Version: `{dataset["version"]}`, the digest of content and rules.

| split | rows |
|---|---|
{counts}

`test` is what Noria calls held-out: no model of the project was trained on its prompts. Left out: {drops}.

```python
import json
from datasets import load_dataset

rows = load_dataset("PATH OF THIS FOLDER", split="train")
records = [json.loads(text) for text in rows["record"]]  # what Transformers and TRL train on
```

| column | meaning |
|---|---|
{columns}

`croissant.json` describes the files for other tools, with their SHA-256; `report.html` is the dataset's profile.
"""


def size(rows: int) -> str:
    """The hub's category of a number of rows."""
    for bound, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < bound:
            return name
    return "1M<n<10M" if rows < 10_000_000 else "10M<n<100M"


def croissant(dataset: Mapping[str, Any], columns: Mapping[str, list[str]]) -> dict[str, Any]:
    """Croissant metadata of a dataset as prep tells of it; `columns` are those of each split's file."""
    name = f"{dataset['project']}-{dataset['number']}"
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"Records of the project {dataset['project']}, frozen by Noria as version {dataset['version']}.",
        "version": f"{dataset['number']}.0.0",
        "datePublished": dataset["frozen_at"],
        "url": f"urn:noria:dataset:{dataset['project']}:{dataset['version']}",
        "license": "https://schema.org/Unknown",
        "citeAs": f"{name}, {dataset['version']}",
        "distribution": [_file(split, dataset["files"][split]) for split in SPLITS],
        "recordSet": [_records(split, columns[split]) for split in SPLITS],
    }


def _file(split: str, ref: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": f"{SPLITS[split]}.parquet",
        "name": f"{SPLITS[split]}.parquet",
        "contentUrl": path_of(split),
        "contentSize": f"{ref['bytes']} B",
        "encodingFormat": "application/x-parquet",
        "sha256": ref["sha256"],
    }


def _records(split: str, columns: list[str]) -> dict[str, Any]:
    name = SPLITS[split]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/record_id"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "description": COLUMNS[column][1],
                "dataType": COLUMNS[column][0],
                "source": {"fileObject": {"@id": f"{name}.parquet"}, "extract": {"column": column}},
            }
            for column in columns
            if column in COLUMNS
        ],
    }
