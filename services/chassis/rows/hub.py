"""The rows of a dataset on the Hugging Face hub, streamed by the datasets library: hf://OWNER/NAME[@REVISION][/CONFIG][:SPLIT].

The library is an extra of its own (`noria[hub]`): it brings pandas and 300 MB that nothing else here needs.
"""

import re
from collections.abc import Iterator
from typing import Any

from services.chassis.rows.row import Row, Unreadable, line

ADDRESS = re.compile(
    r"^hf://(?:datasets/)?([\w.-]+/[\w.-]+|[\w.-]+)(?:@([\w./-]+?))?(?:/([\w.-]+))?(?::([\w.\[\]%-]+))?$"
)


def parse(address: str) -> tuple[str, str | None, str | None, str]:
    """Name, revision, configuration and split of an address; the split is `train` where none is named.

    Raises:
        Unreadable: `bad_address`.
    """
    found = ADDRESS.match(address)
    if found is None:
        raise Unreadable(
            "bad_address", f"{address!r} is no dataset of the hub; give hf://OWNER/NAME[@REVISION][/CONFIG][:SPLIT]"
        )
    name, revision, config, split = found.groups()
    return name, revision, config, split or "train"


def hub_rows(address: str) -> Iterator[Row]:
    """The rows of the dataset; their share is not known before the end.

    Raises:
        Unreadable: `bad_address`, `no_datasets_library`, `hub_unavailable`.
    """
    name, revision, config, split = parse(address)
    try:
        from datasets import load_dataset
    except ImportError as error:
        detail = "hf:// is read by the datasets library; pip install 'noria[hub]', or give the downloaded files"
        raise Unreadable("no_datasets_library", detail) from error
    try:
        found: Any = load_dataset(name, config, split=split, revision=revision, streaming=True)
        for number, row in enumerate(found, 1):
            yield Row(number, line(row), 0.0)
    except Exception as error:  # the library raises what its HTTP client, its parsers and the hub's answers raise
        detail = f"{address} cannot be read: {type(error).__name__}: {error}"[:400]
        raise Unreadable(
            "hub_unavailable", f"{detail}; see that the hub can be reached and has it, or give files"
        ) from error
