"""Importing this imports what a replica runs: Ray's workers do it as they come up, while the sweep is still planned.

Modules are a million objects that stay. Garbage is not looked for among them, neither meanwhile nor ever after.
"""

from __future__ import annotations

import gc
import importlib

MODULES = ("hero_ray.pipeline.worker", "hero_ray.models.loader", "ray.data")
"""What takes a replica seconds to import."""

gc.disable()
try:
    for _name in MODULES:
        importlib.import_module(_name)
    gc.freeze()
finally:  # Ray goes on with a worker whose preloading failed
    gc.enable()
