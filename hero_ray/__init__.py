"""hero_ray: how many visual tokens can a vision-language model lose, with which method, and at what cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hero_ray.core.version import __version__

if TYPE_CHECKING:
    from hero_ray.engine.vlm import load_model

__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> Any:
    # On first use: `import hero_ray` must not cost a torch import.
    if name == "load_model":
        from hero_ray.engine.vlm import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
