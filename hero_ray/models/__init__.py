"""Model families taken apart: encode, splice the kept tokens, generate.

`load` and everything behind it is imported on first use, so that names cost no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hero_ray.models.registry import names

if TYPE_CHECKING:
    from hero_ray.models.loader import load

__all__ = ["load", "names"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from hero_ray.models.loader import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
