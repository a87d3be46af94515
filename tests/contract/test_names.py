"""Names that others import stay where they are, wherever the code lives."""

from __future__ import annotations

import importlib

import pytest

KEPT = {
    "hero_ray": ("load_model", "__version__"),
    "hero_ray.methods": ("create", "names"),
    "hero_ray.benchmarks": ("get",),
    "hero_ray.models": ("load", "miniature"),
    "hero_ray.errors": ("HeroRayError", "UnknownNameError"),
    "hero_ray.types": ("Sample",),
    "hero_ray.profiling": ("ledger",),
    "hero_ray.stats": ("non_inferiority", "mean_interval", "paired"),
    "hero_ray.vlm": ("open_picture", "VisionLanguageModel", "load_model"),
    "hero_ray.evaluate": ("Evaluator",),
    "hero_ray.exchange": ("write_run",),
    "hero_ray.config": ("SweepConfig",),
    "hero_ray.store": ("open_store",),
}


@pytest.mark.parametrize("module", sorted(KEPT))
def test_kept_names_are_importable(module: str) -> None:
    loaded = importlib.import_module(module)
    for name in KEPT[module]:
        # A submodule such as `hero_ray.models.miniature` counts: it is imported on demand.
        assert hasattr(loaded, name) or importlib.import_module(f"{module}.{name}")
