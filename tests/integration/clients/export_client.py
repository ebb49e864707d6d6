"""Reads an exported dataset as its users do: by `datasets.load_dataset`, and by mlcroissant. Prints what it found as JSON."""

import json
import os
import sys
from pathlib import Path

import mlcroissant
from datasets import disable_progress_bars, load_dataset

folder = Path(sys.argv[1])
disable_progress_bars()
splits = load_dataset(str(folder))
os.chdir(folder)  # mlcroissant takes a file's relative place from where the metadata lie
described = mlcroissant.Dataset("croissant.json")
print(
    json.dumps(
        {
            "rows": {name: split.num_rows for name, split in splits.items()},
            "records": [json.loads(text) for split in splits.values() for text in split["record"]],
            "errors": list(described.metadata.ctx.issues.errors),
            "warnings": list(described.metadata.ctx.issues.warnings),
            "described": [record["train/record_id"].decode() for record in described.records("train")],
        }
    )
)
