"""JSON files of a model folder, read as what they should be: an object, with sizes that a model can have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hero_ray.core.errors import CheckpointError

LARGEST = {
    "num_hidden_layers": 1_000,
    "num_attention_heads": 10_000,
    "num_key_value_heads": 10_000,
    "hidden_size": 200_000,
    "intermediate_size": 2_000_000,
    "vocab_size": 4_000_000,
    "max_position_embeddings": 1_000_000_000,
    "patch_size": 10_000,
}
"""Well beyond any published model: a larger number would be built for minutes, or until memory ends."""


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        CheckpointError: not readable, not JSON, or something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a JSON {type(found).__name__}; expected an object")
    return found


def check_sizes(config: Mapping[str, Any], where: Path | str, inside: str = "") -> None:
    """Refuse a `config.json` whose sizes no model has, its parts included.

    Raises:
        CheckpointError: naming the entry.
    """
    for key, value in config.items():
        if key.endswith("_config") and value is not None and not isinstance(value, Mapping):
            raise CheckpointError(f"{where}: {inside}{key} holds {type(value).__name__}; expected an object")
        if isinstance(value, Mapping) and key.endswith("_config"):
            check_sizes(value, where, f"{inside}{key}.")
        largest = LARGEST.get(key)
        if largest is None or value is None or (key == "patch_size" and isinstance(value, list)):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
            raise CheckpointError(
                f"{where}: {inside}{key} is {str(value)[:60]}; expected a number from 1 to {largest:,}"
            )


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's `config.json` as plain JSON.

    Raises:
        CheckpointError: no such file, not a JSON object, or sizes that no model has.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no config.json; give a model folder, a hub id or a known name")
    found = read_object(path)
    check_sizes(found, path)
    return found
