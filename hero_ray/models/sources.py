"""From a name to a folder of weights: embedded, local, or a hub snapshot of safetensors and JSON only."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hero_ray.core.errors import CheckpointError, MissingExtraError, UnknownNameError
from hero_ray.models.checkpoints.reader import read_config
from hero_ray.models.registry import SPECS
from hero_ray.models.supported import family_of

log = logging.getLogger(__name__)

_BOT, _BOT_TITLE = "SFconvertbot", "Adding `safetensors` variant of this model"
_WANTED = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt"]


Check = Callable[[Mapping[str, Any], object], object]
"""Raises CheckpointError for a parsed `config.json` whose weights are not worth fetching."""


def find_folder(name: str, check: Check = family_of) -> Path:
    """The folder behind a known name, a local path or a hub id; of the latter, `config.json` is fetched and checked
    before anything else.

    Raises:
        UnknownNameError: neither a known name, nor a folder, nor shaped like a hub id.
        CheckpointError: embedded weights that are not installed, a path to nothing, or a download that failed.
    """
    known = SPECS.get(name)
    if known is not None and known.embedded is not None:
        if not (known.embedded / "config.json").is_file():
            raise CheckpointError(f"the weights of {name} are not in this installation (looked in {known.embedded})")
        return known.embedded
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path
    if name.startswith((".", "/", "~")):
        raise CheckpointError(f"the model folder {name!r} does not exist")
    source = known.source if known is not None else name
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise UnknownNameError("model", name, SPECS)
    return download(source, check)


def download(source: str, check: Check = family_of) -> Path:
    """A hub snapshot; pickles and code are never fetched.

    Where a repository's main branch holds pickles only, the hub's own conversion bot may have offered the same weights
    as safetensors; that revision is taken then.

    Raises:
        CheckpointError: the hub cannot be reached, does not know the id, or has no safetensors of it.
    """
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "hub") from error
    try:
        first = Path(snapshot_download(source, allow_patterns="config.json"))
        if (first / "config.json").is_file():
            check(read_config(first), source)
        folder = Path(snapshot_download(source, allow_patterns=_WANTED))
        if any(folder.glob("*.safetensors")):
            return folder
        offered = HfApi().get_repo_discussions(source, author=_BOT, discussion_type="pull_request")
        revision = next((offer.git_reference for offer in offered if offer.title == _BOT_TITLE), None)
        if revision is not None:
            log.info("%s holds no safetensors; taking the conversion bot's %s", source, revision)
            return Path(snapshot_download(source, allow_patterns=_WANTED, revision=revision))
    except CheckpointError:
        raise
    except Exception as error:  # the client's error types changed with its versions; all mean the same to the user
        raise CheckpointError(
            f"{source} could not be fetched from the hub ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "check the id and the connection, or give a local folder"
        ) from error
    raise CheckpointError(
        f"{source} is published as pickles only; loading a pickle can run code. Convert a trusted copy to safetensors "
        "once and load that folder"
    )
