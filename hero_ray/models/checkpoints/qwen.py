"""Names of Qwen-VL weights: as released and as transformers saves them, to transformers' own in memory."""

from __future__ import annotations

from torch import Tensor

_RELEASED = ("model.language_model.", "model.visual.", "lm_head.")


def hub(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """One entry of a checkpoint; released Qwen2.5-VLs name tower and language model without `model.` around them."""
    if key.startswith(_RELEASED):
        return {key: tensor}
    if key.startswith("visual."):
        return {f"model.{key}": tensor}
    return {key.replace("model.", "model.language_model.", 1) if key.startswith("model.") else key: tensor}
