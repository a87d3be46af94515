"""torch, imported when something of it is used: what a method is called, reads and defaults to costs no torch.

A finished sweep is recognised by facts alone (`hero_ray.pipeline.finished`); importing torch for them would take longer
than all the rest of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
    from torch import Tensor as Tensor
else:
    Tensor = Any  # annotations only: nobody may ask `isinstance` of it

    class _Torch:
        """The module, an attribute at a time; each is looked up once."""

        def __getattr__(self, name: str) -> Any:
            import torch

            found = getattr(torch, name)
            setattr(self, name, found)
            return found

    torch = _Torch()
