"""vLLM's own language model classes, filled from a checkpoint of ours: the very files that our loader reads.

A vision-language folder holds the language model's weights under names that vLLM does not expect of one, beside a
tower that it is not asked to run. Each class here is vLLM's, told where the folder is by its configuration, and handed
the entries that belong to the language model one at a time under the names it knows. Nothing is copied on disk.

`register` is vLLM's plug-in entry point (`vllm.general_plugins`), so that its worker processes know the classes too.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from hero_ray.core.errors import CheckpointError
from hero_ray.models.checkpoints import llava
from hero_ray.models.checkpoints.plausible import read_config
from hero_ray.models.checkpoints.reader import Translate, entries
from hero_ray.models.supported import is_original_llava

FOLDER = "hero_ray_folder"
"""Entry of the configuration that names the checkpoint's folder."""

HEAD = "lm_head."

BASES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "mistral": ("mistral", "MistralForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "phi3": ("phi3", "Phi3ForCausalLM"),
}
"""transformers' `model_type` to (module, class) in vLLM. InternLM2 is a Llama by then."""


def architecture(kind: str) -> str:
    """What the class for a language model is registered as.

    Raises:
        CheckpointError: a language model that has none.
    """
    if kind not in BASES:
        raise CheckpointError(f"no language model of type {kind!r} is handed to vLLM; it takes {', '.join(BASES)}")
    return f"HeroRay{BASES[kind][1]}"


def register() -> None:
    """Make the classes known to vLLM in this process."""
    from vllm import ModelRegistry

    for kind, (module, name) in BASES.items():
        base: Any = getattr(import_module(f"vllm.model_executor.models.{module}"), name)
        ModelRegistry.register_model(architecture(kind), _from_checkpoint(architecture(kind), base))


def _from_checkpoint(name: str, base: Any) -> Any:
    """A class of vLLM's, filled from the folder its configuration names; what vLLM would read itself stays unread."""

    def load_weights(self: Any, weights: Any) -> Any:
        own = language_weights(Path(getattr(self.config, FOLDER)))
        tied = self.config.tie_word_embeddings  # some checkpoints hold the head all the same
        return base.load_weights(self, ((key, tensor) for key, tensor in own if not (tied and key.startswith(HEAD))))

    return type(name, (base,), {"load_weights": load_weights})


def language_weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The language model's entries of a checkpoint, named as transformers names those of the language model alone."""
    translate = names_of(folder)
    inside = "model.language_model."
    for key, tensor in entries(folder):
        for name, value in translate(key, tensor).items():
            if name.startswith(inside):
                yield "model." + name.removeprefix(inside), value
            elif name.startswith(HEAD):
                yield name, value


def names_of(folder: Path) -> Translate:
    """How the entries of a folder map to transformers' names, as our own loader reads them."""
    raw = read_config(folder)
    if is_original_llava(raw):
        return llava.original
    if raw["model_type"] == "internvl_chat":
        from hero_ray.models.configs import internvl

        return internvl(folder, raw)[1]
    return llava.hub
