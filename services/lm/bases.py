"""Finds a base model by the name a project gives it: the catalogue, a directory, or a hub.

Only safetensors are taken: pickled weights run code when they are read.
"""

from pathlib import Path

from services.lm.errors import BaseInvalid, BaseNotFound, HubUnavailable

CATALOGUE = frozenset({"smollm2-135m-instruct"})
"""Bases that `scripts/setup` fetches by package and keeps under NORIA_CACHE/bases."""

PATTERNS = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def resolve(name: str, cache: Path) -> Path:
    """The local directory of the base `name`.

    Raises:
        BaseNotFound: it is nowhere; the message says what was tried.
        BaseInvalid: it has no safetensors.
        HubUnavailable: the hub does not answer, so that nobody knows.
    """
    kept = cache / "bases" / name
    if name in CATALOGUE or kept.is_dir():
        return _checked(name, kept, [f"the catalogue's folder {kept}; run scripts/setup"])
    if name.startswith(("/", "./", "../", "~")):
        return _checked(name, Path(name).expanduser().resolve(), [f"the directory {name}"])
    tried = [f"the catalogue ({', '.join(sorted(CATALOGUE))})"]
    if name.count("/") != 1:
        raise BaseNotFound(
            f"base {name!r} is not known; tried {tried[0]}; give one of these, a directory or owner/name"
        )
    return _checked(name, _from_hub(name, tried), tried)


def find_local(name: str, cache: Path) -> Path | None:
    """The directory of a base whose files are at hand: in the catalogue's folder, or a directory of its own."""
    for directory in (cache / "bases" / name, Path(name).expanduser()):
        if directory.is_dir():
            return directory
    return None


def model_files(directory: Path) -> dict[str, Path]:
    """The files that make a model of a directory, by name: weights, configuration, tokenizer."""
    found = {path.name: path for pattern in PATTERNS for path in directory.glob(pattern) if path.is_file()}
    return dict(sorted(found.items()))


def _checked(name: str, directory: Path, tried: list[str]) -> Path:
    if not directory.is_dir():
        raise BaseNotFound(f"base {name!r} was not found; tried {'; '.join(tried)}")
    names = {path.name for path in directory.iterdir()}
    if "config.json" not in names:
        raise BaseInvalid(f"base {name!r} at {directory} has no config.json; give a Hugging Face model directory")
    if not any(file.endswith(".safetensors") for file in names):
        pickled = sorted(file for file in names if file.endswith(PICKLES))
        reason = f"only pickled weights ({', '.join(pickled[:3])}), which are refused" if pickled else "no weights"
        raise BaseInvalid(f"base {name!r} at {directory} has {reason}; convert it to safetensors")
    return directory


def _from_hub(name: str, tried: list[str]) -> Path:
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(PATTERNS)))
    except Exception as error:  # of the hub's client, or as its transports (httpx2, hf_xet) raise it: no one base class
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        if not constants.HF_HUB_OFFLINE and _hub_is_away(error):
            raise HubUnavailable(f"base {name!r}: the hub does not serve it ({said})") from error
        tried.append(f"the hub ({said})")
        raise BaseNotFound(f"base {name!r} was not found; tried {'; '.join(tried)}") from error


def _hub_is_away(error: Exception) -> bool:
    """Whether another try may find the base: all but what the hub itself says of it, and a name that none can have.

    Where it cannot be reached and the cache has no copy, huggingface_hub raises LocalEntryNotFoundError; where it falls silent
    within a file, its transport's own error, as httpx2.ReadTimeout.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, HfHubHTTPError):
        return status is None or status in (408, 429) or status >= 500
    return not isinstance(error, HFValidationError)
