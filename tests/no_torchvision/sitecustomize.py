"""On the path of vLLM's own server where torchvision is not installed: its LLaVA classes import a picture processor of
Pixtral's that wants it, and use one function of it for Pixtral alone."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NAME = "transformers.models.pixtral.image_processing_pixtral"


class NoPixtral(MetaPathFinder, Loader):
    """Finds an empty module in the place of that processor."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == NAME else None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(_num_image_tokens=None)


if importlib.util.find_spec("torchvision") is None:
    sys.meta_path.insert(0, NoPixtral())
