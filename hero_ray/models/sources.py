"""From a name to a folder of weights: embedded, local, or a hub snapshot of safetensors and JSON only."""

from __future__ import annotations

import re
from pathlib import Path

from hero_ray.errors import CheckpointError, MissingExtraError, UnknownNameError
from hero_ray.models.registry import SPECS

_WANTED = ["*.json", "*.safetensors", "tokenizer.model", "*.txt"]


def find_folder(name: str) -> Path:
    """The folder behind a known name, a local path or a hub id.

    Raises:
        UnknownNameError: neither a known name, nor a folder, nor shaped like a hub id.
        CheckpointError: an embedded model whose weights are not installed, or a download that failed.
    """
    known = SPECS.get(name)
    if known is not None and known.embedded is not None:
        if not (known.embedded / "config.json").is_file():
            raise CheckpointError(f"the weights of {name} are not in this installation (looked in {known.embedded})")
        return known.embedded
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    source = known.source if known is not None else name
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise UnknownNameError("model", name, SPECS)
    return download(source)


def download(source: str) -> Path:
    """A hub snapshot; pickles and code are never fetched.

    Raises:
        CheckpointError: the hub cannot be reached or does not know the id.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "hub") from error
    try:
        return Path(snapshot_download(source, allow_patterns=_WANTED))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{source} could not be fetched from the hub ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "check the id and the connection, or give a local folder"
        ) from error
