"""Cards by name or in figures: memory, bandwidth and FLOP/s that a forecast is made for.

A figure stands in the table only where a page of the card's maker was read that prints it, and that page stands beside
it; what no page could be read for is None. Anyone may give figures of their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hero_ray.core.errors import ConfigError, UnknownNameError
from hero_ray.core.text import brief

_NIM = "docs.nvidia.com/nim/large-language-models/1.6.0/supported-models.html"
_CLUSTERS = "github.com/NVIDIA/TensorRT-LLM/blob/16d2467/tensorrt_llm/auto_parallel/cluster_info.py"
_MI300 = "github.com/ROCm/legacy-rocm-build/blob/089d751/docs/conceptual/gpu-arch/mi300.md"
_INSTINCT = "github.com/ROCm/legacy-rocm-build/blob/089d751/docs/reference/gpu-arch-specs.rst"

_FIGURE = re.compile(r"(\d+(?:\.\d+)?(?:e\+?\d+)?)\s*([a-z]*)(?:/s)?", re.IGNORECASE)
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "ki": 2**10, "mi": 2**20, "gi": 2**30,
          "ti": 2**40}  # fmt: skip
_UNITS = {"memory": ("b",), "bandwidth": ("b",), "flops": ("flops", "flop")}
_EXAMPLES = {"memory": "80GB", "bandwidth": "3350GB/s", "flops": "989T"}
_LEAST = 1e6
"""No card has less of anything: `memory=80` leaves its unit out."""
_MAKERS = re.compile(r"^(nvidia|amd)?(geforce|tesla|instinct)?(rtx)?")


@dataclass(frozen=True)
class GpuCard:
    """What a forecast must know of a card.

    Attributes:
        memory: bytes. bandwidth: bytes a second of it. flops: dense 16-bit products with 32-bit sums, a second.
        pages: figure -> the page of the maker that it was read from.
    """

    name: str
    memory: float
    bandwidth: float | None = None
    flops: float | None = None
    pages: Mapping[str, str] = field(default_factory=dict)


_in_clusters = dict.fromkeys(("memory", "bandwidth", "flops"), _CLUSTERS)

CARDS = {
    card.name: card
    for card in (
        GpuCard("a100", 80e9, 2039e9, 312e12, _in_clusters),
        GpuCard("h100", 80e9, 3350e9, 989e12, _in_clusters),
        # Printed as 1,979, which counts sparse products: the page's H100, the same chip, has 989.
        GpuCard("h200", 141e9, 4800e9, 1979e12 / 2, _in_clusters),
        GpuCard("l40s", 48e9, 864e9, 362e12, _in_clusters),
        GpuCard("a10", 24e9, 600e9, 125e12, _in_clusters),
        GpuCard("4090", 24e9, pages={"memory": _NIM}),
        GpuCard(
            "mi300x",
            192 * 2**30,
            5.3e12,
            1307.4e12,
            pages={"memory": _INSTINCT, "bandwidth": _MI300, "flops": _MI300},
        ),
    )
}


def card(text: str) -> GpuCard:
    """A card as it is asked for: `h200`, `h200,flops=989T`, `memory=24GB,bandwidth=1TB/s,flops=165T`, or a YAML file.

    GB is 10^9 bytes and GiB 2^30. A file holds `memory`, `bandwidth` and `flops`, and `name` if it likes.

    Raises:
        UnknownNameError: no card of that name, and no file.
        ConfigError: a figure that is none, a key nobody knows, or a card without memory.
    """
    if Path(text).suffix in (".yaml", ".yml", ".json"):
        return _made(_read(Path(text)), text)
    first, *rest = (part.strip() for part in text.split(","))
    own = rest if first and "=" not in first else [first, *rest]
    given: dict[str, Any] = {}
    for part in own:
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"--card {brief(text)}: {part!r} is not KEY=VALUE; known are {', '.join(_UNITS)}")
        given[key.strip()] = value
    if own is not rest:
        return _made(given, text)
    name = _MAKERS.sub("", re.sub(r"[\s_-]", "", first.lower()))
    if name not in CARDS:
        raise UnknownNameError("card", first, CARDS)
    known = CARDS[name]
    figures: dict[str, Any] = {key: _figure(key, value, text) for key, value in given.items()}
    read = {key: page for key, page in known.pages.items() if key not in figures}
    return replace(known, **figures, pages=read)


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--card {str(path)!r} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"--card {str(path)!r} must hold a mapping of {', '.join(_UNITS)}")
    return document


def _made(given: Mapping[str, Any], text: str) -> GpuCard:
    figures: dict[str, Any] = {
        str(key): _figure(str(key), value, text) for key, value in given.items() if key != "name"
    }
    if "memory" not in figures:
        raise ConfigError(f"--card {brief(text)} names no memory; write for example memory=24GB,bandwidth=1TB/s")
    return GpuCard(str(given.get("name", "your card")), **figures)


def _figure(key: str, value: Any, text: str) -> float:
    if key not in _UNITS:
        raise ConfigError(f"--card {brief(text)}: unknown key {key!r}; known are {', '.join(_UNITS)}")
    match = _FIGURE.fullmatch(str(value).strip())
    unit = match[2].lower() if match else ""
    endings = sorted(_UNITS[key], key=len, reverse=True)
    scale = next((unit.removesuffix(one) for one in endings if unit.endswith(one)), unit)
    number = float(match[1]) * _SCALE.get(scale, math.nan) if match else math.nan
    if not _LEAST <= number < math.inf:
        raise ConfigError(
            f"--card {brief(text)}: {key}={brief(value)} is no figure with its unit; write {key}={_EXAMPLES[key]}"
        )
    return number
