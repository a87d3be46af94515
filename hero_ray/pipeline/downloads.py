"""What a sweep would still fetch from the hub, known before anything large is fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from hero_ray.core import hub
from hero_ray.core.config import SweepConfig
from hero_ray.core.errors import HeroRayError
from hero_ray.core.hub_sizes import Download
from hero_ray.core.text import in_bytes
from hero_ray.models.registry import SPECS
from hero_ray.models.shapes import shape
from hero_ray.models.sources import find_folder, is_clip
from hero_ray.models.supported import family_of
from hero_ray.pipeline.facts import clip_source, method_fact
from hero_ray.pipeline.opening import make_task, tasks_of


def to_fetch(config: SweepConfig) -> list[Download]:
    """Every repository of a sweep that the cache lacks files of, models first; what the hub does not say is left out.

    Nothing but configurations and cards is fetched to know it.
    """
    with hub.pinned(), hub.looking() as wanted:
        with_clip = any(method_fact(entry).reads_clip for entry in config.all_methods)
        for name in config.models:
            with suppress(HeroRayError):
                _look(name, config.model_args, with_clip, wanted)
        for task in tasks_of(config):
            with suppress(HeroRayError):
                make_task(task).fingerprint()
    return wanted


def _look(name: str, arguments: Mapping[str, Any], with_clip: bool, wanted: Sequence[Download]) -> None:
    families: list[str] = []
    folder, before = None, len(wanted)
    with suppress(HeroRayError):
        folder = find_folder(name, lambda config, where: families.append(family_of(config, where)))
    if not with_clip or any("clip/config.json" in one.paths for one in wanted[before:]):
        return
    if name not in SPECS and not families and folder is not None:
        families.append(shape(str(folder)).family)
    source = (
        clip_source(name, folder, families[0] if families else "", arguments) if name in SPECS or families else None
    )
    if source is not None and source not in [one.name for one in wanted]:
        find_folder(source, is_clip)


def described(downloads: Sequence[Download]) -> list[str]:
    """Lines of a plan: what is fetched of each repository, and of all."""
    if not downloads:
        return []
    lines = [f"would fetch {one.said}" for one in downloads]
    total = sum(one.size for one in downloads)
    return [*lines, f"would fetch {in_bytes(total)} in all"] if len(lines) > 1 else lines
