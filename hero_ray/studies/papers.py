"""The papers' tables as sweep files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hero_ray.core.config import SweepConfig, build, read
from hero_ray.core.errors import ConfigError


@dataclass(frozen=True)
class Header:
    """What the comment atop a paper's sweep file says: `# Key: text` lines."""

    table: str
    needs: str
    hours: float
    offline: str


def header(path: Path) -> Header:
    """The header of a paper's sweep file.

    Raises:
        ConfigError: a line is missing.
    """
    text = path.read_text(encoding="utf-8")
    found = {key: value.strip() for key, value in re.findall(r"^# (Table|Needs|Hours|Offline): (.+)$", text, re.M)}
    if missing := {"Table", "Needs", "Hours", "Offline"} - found.keys():
        raise ConfigError(f"{path.name}: the header lacks {', '.join(sorted(missing))}")
    hours = re.match(r"about ([\d.]+)", found["Hours"])
    if hours is None:
        raise ConfigError(f"{path.name}: `# Hours:` must begin with `about NUMBER`")
    return Header(found["Table"], found["Needs"], float(hours[1]), found["Offline"])


def load(path: Path) -> SweepConfig:
    """A validated sweep file."""
    return build(read(path))
