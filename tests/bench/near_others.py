"""Near duplicates by another library, run in an environment of its own by bench_prep. Prints JSON.

python near_others.py rensa|datatrove PROMPTS.jsonl

Both with as many bands and rows as prep's, on words.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

BANDS, ROWS = 13, 5


def rensa(texts: list[str]) -> int:
    """Signatures, an index and its answers, a document at a time, as its documentation has it."""
    from rensa import RMinHash, RMinHashLSH  # pyright: ignore[reportMissingImports]

    index: Any = RMinHashLSH(threshold=0.8, num_perm=BANDS * ROWS, num_bands=BANDS)
    repeated = 0
    kept: dict[int, Any] = {}
    for i, text in enumerate(texts):
        signature: Any = RMinHash(num_perm=BANDS * ROWS, seed=1)
        signature.update(text.split())
        if any(signature.jaccard(kept[other]) >= 0.8 for other in index.query(signature)):
            repeated += 1
        else:
            kept[i] = signature
            index.insert(i, signature)
    return repeated


def datatrove(path: Path) -> None:
    """Its four blocks, one task each."""
    from datatrove.executor import LocalPipelineExecutor  # pyright: ignore[reportMissingImports]
    from datatrove.pipeline.dedup import minhash  # pyright: ignore[reportMissingImports]
    from datatrove.pipeline.readers import JsonlReader  # pyright: ignore[reportMissingImports]
    from datatrove.pipeline.writers import JsonlWriter  # pyright: ignore[reportMissingImports]

    def folder(name: str) -> str:
        return str(path.parent / name)

    config: Any = minhash.MinhashConfig(n_grams=1, num_buckets=BANDS, hashes_per_bucket=ROWS)
    reader: Any = JsonlReader(str(path.parent), glob_pattern=path.name)
    blocks: list[list[Any]] = [
        [reader, minhash.MinhashDedupSignature(output_folder=folder("sigs"), config=config)],
        [minhash.MinhashDedupBuckets(input_folder=folder("sigs"), output_folder=folder("buckets"), config=config)],
        [minhash.MinhashDedupCluster(folder("buckets"), output_folder=folder("remove"), config=config)],
        [reader, minhash.MinhashDedupFilter(folder("remove")), JsonlWriter(folder("kept"))],
    ]
    for number, block in enumerate(blocks):
        tasks = BANDS if number == 1 else 1
        LocalPipelineExecutor(block, tasks=tasks, workers=1, logging_dir=folder(f"log{number}")).run()


def main() -> None:
    name, path = sys.argv[1], Path(sys.argv[2])
    texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    begun, cpu = time.perf_counter(), spent()
    found = {"dropped": rensa(texts)} if name == "rensa" else {}
    if name == "datatrove":
        datatrove(path)
    seconds = time.perf_counter() - begun
    told = {"documents": len(texts), "documents_a_second": round(len(texts) / seconds)}
    print(json.dumps({**told, "a_core_second": round(len(texts) / (spent() - cpu)), **found}))


def spent() -> float:
    """Processor seconds of this process and of those that it waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    main()
