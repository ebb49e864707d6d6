"""Writes the same rows as `datasets` and `pandas` write them, in every form that people hand on, into the folder named."""

import sys
from pathlib import Path

import pandas as pd
from datasets import ClassLabel, Dataset, DatasetDict, disable_progress_bars

TURNS = [{"role": "user", "content": "Größe?", "name": None}, {"role": "assistant", "content": "XL", "name": None}]
folder = Path(sys.argv[1])
disable_progress_bars()

rows = [{"id": i, "messages": TURNS, "score": 1.5 if i else None, "lang": "de"} for i in range(3)]
chats = Dataset.from_list(rows).cast_column("lang", ClassLabel(names=["de", "en"]))
chats.to_json(folder / "chats.jsonl")
chats.to_json(folder / "chats.json", lines=False, orient="records")
chats.to_json(folder / "packed.json.gz", compression="gzip")
chats.to_parquet(folder / "chats.parquet")
chats.save_to_disk(folder / "saved", num_shards=2)
DatasetDict({"train": chats}).save_to_disk(folder / "saved_dict")
chats.select([2, 0, 1]).save_to_disk(folder / "reordered")

pairs = pd.DataFrame({"prompt": ["Größe?"] * 3, "completion": ["XL"] * 3, "score": [None, 1.5, 1.5]}, index=[5, 7, 9])
pairs.to_csv(folder / "indexed.csv")
pairs.to_csv(folder / "utf16.csv", index=False, encoding="utf-16")
pairs.to_csv(folder / "excel.csv.gz", index=False, encoding="utf-8-sig")
pairs.to_csv(folder / "pairs.tsv", index=False, sep="\t")
pairs.to_json(folder / "records.json", orient="records")
pairs.to_json(folder / "lines.json", orient="records", lines=True)
pairs.to_parquet(folder / "pairs.parquet")
pairs.reset_index().to_feather(folder / "pairs.feather")
