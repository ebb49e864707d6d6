"""How far a file has been ingested, so that the same command goes on where it was stopped. One small file a (project, file)."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from services.chassis.rows.reading import fingerprint


@dataclass(frozen=True, slots=True)
class Done:
    """Rows up to `row` were answered: so many taken, so many refused."""

    row: int = 0
    accepted: int = 0
    refused: int = 0


class IngestState:
    """The state of one (project, file). A file that changed since, by size and time, begins anew."""

    def __init__(self, home: Path, project: str, source: str) -> None:
        path = Path(source)
        self._of = [project, source if source.startswith("hf://") else str(path.resolve())]
        self._now = _state_of(path)
        name = hashlib.sha256("\n".join(self._of).encode()).hexdigest()[:24]
        self._path = home / "state" / "ingest" / f"{name}.json"

    def read(self) -> Done:
        """How far it had come; nothing where it ended, changed or never began."""
        try:
            found = json.loads(self._path.read_bytes())
            return Done(**found["done"]) if [found["of"], found["state"]] == [self._of, self._now] else Done()
        except (OSError, ValueError, KeyError, TypeError):
            return Done()

    def write(self, done: Done) -> None:
        """Keeps how far it has come: whole or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".part")
        aside.write_text(json.dumps({"of": self._of, "state": self._now, "done": asdict(done)}))
        aside.replace(self._path)

    def forget(self) -> None:
        """It came to its end."""
        self._path.unlink(missing_ok=True)


def _state_of(path: Path) -> str:
    """Tells whether a file, or any of a folder, changed. An address of the hub has none."""
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    told = [f"{each} {fingerprint(each)}" for each in files if each.is_file()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest() if told else ""
