"""Named settings of a method, as files: `configs/presets/NAME.yaml`, or any path that ends in .yaml.

A name is looked for under the working directory first, then among the presets that are shipped.

A sweep takes one by `methods: [{preset: NAME}]` or `--methods preset:NAME`. Its cells carry the parameters themselves,
so that renaming or deleting a preset changes no result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from hero_ray.core.errors import ConfigError, UnknownNameError
from hero_ray.core.shipped import folder
from hero_ray.core.strict import Strict, fault

FOLDER = Path("configs") / "presets"


class Tuned(Strict):
    """Where the settings of a preset come from.

    Attributes:
        splits: benchmark -> split that was searched on. fingerprints: benchmark -> hash of its rows.
        on_reported_split: the search was forced onto a split that sweeps report on.
        score: mean of the main metrics as shares. default_score: the same of the method's defaults.
        difference, low, high: paired, over the questions searched on, hence optimistic.
        tokens: visual tokens alive per LLM block, the mean.
    """

    model: str
    revision: str
    splits: dict[str, str]
    fingerprints: dict[str, str]
    limit: int | None
    questions: int
    pictures: int
    on_reported_split: bool
    budget: float
    budget_base: str
    space: dict[str, str]
    trials: int
    seed: int
    score: float
    default_score: float
    difference: float
    low: float | None
    high: float | None
    tokens: float
    commit: str | None
    created: str


class Preset(Strict):
    """A method with its variant and parameters."""

    method: str
    variant: str = "exact"
    params: dict[str, Any] = Field(default_factory=dict)
    tuned: Tuned | None = None


def path_of(name: str) -> Path:
    """Where a preset lies."""
    return Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"


def load(name: str) -> Preset:
    """Read one preset.

    Raises:
        UnknownNameError: no such file. ConfigError: not YAML, or not a preset.
    """
    file = path_of(str(name))
    shipped = folder("configs") / "presets"
    if file.parent == FOLDER and not file.is_file():
        file = shipped / file.name
    if not file.is_file():
        known = {path.stem for place in (FOLDER, shipped) for path in place.glob("*.yaml")}
        raise UnknownNameError(f"preset (looked for {path_of(str(name))})", str(name), known)
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ConfigError(f"preset {file} must hold a mapping with `method`, not {type(document).__name__}")
        return Preset(**document)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"preset {file} is not valid YAML: {str(error).splitlines()[0]}") from None
    except ValidationError as error:
        raise ConfigError(f"preset {file}, key {fault(error)}") from None


def write(preset: Preset, name: str) -> Path:
    """Write one preset; an existing file is replaced."""
    file = path_of(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    head = "# Exported by `hero-ray tune`; used by `methods: [{preset: NAME}]` or `--methods preset:NAME`.\n"
    document = preset.model_dump(mode="json", exclude_none=False)
    file.write_text(head + yaml.safe_dump(document, sort_keys=False, width=120), encoding="utf-8")
    return file
