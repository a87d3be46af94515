"""From a name to a folder of weights: embedded, local, or a hub snapshot of safetensors and JSON only."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hero_ray.core import hub
from hero_ray.core.errors import CheckpointError, HubError, ParameterError, UnknownNameError
from hero_ray.models.checkpoints.plausible import read_config
from hero_ray.models.registry import CLIP_LARGE, CLIP_TOWERS, SPECS, ModelSpec
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
    """A hub snapshot; pickles and code are never fetched, and nothing but `config.json` before `check` has passed it.

    Where a repository's main branch holds pickles only, the hub's own conversion bot may have offered the same weights
    as safetensors; that revision is taken then.

    Raises:
        CheckpointError: the hub cannot be reached, does not know the id, or has no safetensors of it.
    """

    def rest(folder: Path) -> list[str]:
        if (folder / "config.json").is_file():
            check(read_config(folder), source)
        return _WANTED

    try:
        folder = hub.snapshot("model", source, ["config.json"], rest)
        if any(folder.glob("*.safetensors")):
            return folder
        revision = _offered(source)
        if revision is not None:
            log.info("%s holds no safetensors; taking the conversion bot's %s", source, revision)
            return hub.at("model", source, revision, _WANTED)
    except HubError as error:
        raise CheckpointError(str(error)) from error
    raise CheckpointError(
        f"{source} is published as pickles only; loading a pickle can run code. Convert a trusted copy to safetensors "
        "once and load that folder"
    )


def _offered(source: str) -> str | None:
    """The conversion bot's pull request; None where it made none, or nobody can be asked."""
    from huggingface_hub import HfApi

    try:
        offered = HfApi().get_repo_discussions(source, author=_BOT, discussion_type="pull_request")
        return next((str(offer.git_reference) for offer in offered if offer.title == _BOT_TITLE), None)
    except Exception as error:  # the client's error types changed with its versions
        log.info("%s: no conversion could be looked for: %s", source, error)
        return None


def find_clip(chosen: ModelSpec, folder: Path | None, asked: str | None, vision: str = "tower") -> str | None:
    """Where the CLIP text tower of a model comes from: what was asked for, its own `clip/`, or its registry line.

    Args:
        vision: `tower`, `openai` or `none`; with the model's own tower only a CLIP's goes with a CLIP.

    Raises:
        ParameterError: a CLIP asked for beside another tower, whose states it cannot read.
    """
    if vision == "none":
        return None
    if vision == "tower" and chosen.family not in CLIP_TOWERS:
        if asked:
            raise ParameterError(
                f"clip={asked}: the vision tower of {chosen.name} is no CLIP; with clip_vision=openai CLIP looks itself"
            )
        return None
    if asked:
        return asked
    if folder is not None and (folder / "clip" / "config.json").is_file():
        return str(folder / "clip")
    return chosen.clip or (CLIP_LARGE if vision == "openai" else None)


def is_clip(config: Mapping[str, Any], where: object) -> None:
    """Raises `CheckpointError` for a `config.json` of anything but a CLIP."""
    if config.get("model_type") != "clip":
        raise CheckpointError(f"{where}: model_type is {config.get('model_type')!r}, expected 'clip'")
