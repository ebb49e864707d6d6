"""The embedder as the gateway sees it: where its files lie, its tokenizer, and whether Triton has it. Loads nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from services.chassis.timeouts import wait_at_most
from services.serving.domain.errors import ModelNotFound, Unavailable
from services.serving.domain.routing import EMBEDDER
from services.serving.settings import ServingSettings

LOAD_WAIT_SECONDS = 30.0
"""So long the first requests wait for the load, which takes seconds."""
_NOT_THERE = f"The model {EMBEDDER!r} does not exist: embeddings are switched off here (NORIA_SERVING_EMBEDDINGS)."


@dataclass(slots=True)
class Embedder:
    """Touched by the event loop's thread alone. Requests want it and suspect it; embedder_loading.py does the rest."""

    wanted: bool = False
    """Somebody asked for it: it is loaded, and again where it is lost."""
    generation: str | None = None
    """The name under which Triton holds it; None while it does not answer."""
    fault: str = "it is being loaded"
    """Why it does not answer."""
    at_work: int = 0
    """Requests."""
    suspected: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """It answers, or nothing is being done about that it does not: nobody need wait."""

    def took(self, generation: str) -> None:
        """Triton has loaded it."""
        self.generation, self.suspected = generation, False
        self.settled.set()

    def loading(self) -> None:
        """It does not answer, and is being loaded."""
        self.generation, self.fault = None, "it is being loaded"
        self.settled.clear()

    def failed(self, why: str) -> None:
        """It does not answer, and will not soon."""
        self.generation, self.fault = None, why
        self.settled.set()

    def suspect(self) -> None:
        """A request to it failed: it is looked at now."""
        self.suspected = True
        self.wake.set()

    async def held(self) -> str:
        """The name under which Triton holds it; waits for a load that is under way or begins.

        Raises:
            Unavailable: there is none yet.
        """
        self.wanted = True
        if self.generation is None:
            self.wake.set()
            await wait_at_most(self.settled, LOAD_WAIT_SECONDS)
        if self.generation is None:
            raise Unavailable(
                f"{EMBEDDER} does not answer: {self.fault}; the request can be sent again.", "model_loading"
            )
        return self.generation


def directory(settings: ServingSettings) -> Path:
    """Where the embedder's files lie (compose/local/assets.py)."""
    return settings.cache / "embedders" / EMBEDDER


def has_embedder(settings: ServingSettings) -> bool:
    """Whether it is switched on and its files are here."""
    return settings.embeddings and directory(settings).is_dir()


def check_files(settings: ServingSettings) -> None:
    """Whether it can answer at all.

    Raises:
        ModelNotFound: it is switched off.
        Unavailable: its files are not here.
    """
    if not settings.embeddings:
        raise ModelNotFound(_NOT_THERE)
    if not directory(settings).is_dir():
        said = (
            f"{EMBEDDER} is not on this machine: {directory(settings)} is missing. `scripts/setup --assets` fetches it."
        )
        raise Unavailable(said, "embedder_missing", 60)


def tokens(settings: ServingSettings, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, [CLS] and [SEP] included, however many they are. Blocks."""
    return [encoding.ids for encoding in _tokenizer(directory(settings)).encode_batch(list(texts))]


@cache
def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
