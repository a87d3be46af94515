"""Names of LLaVA weights: the hub's two layouts and the original one, to transformers' own."""

from __future__ import annotations

from torch import Tensor

# Recomputed on loading; older checkpoints carry them along.
_DERIVED = ("position_ids", "rotary_emb.inv_freq")

_HUB = (
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "model.language_model."),
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
    ("image_newline", "model.image_newline"),
    # as transformers 5 names them in memory
    ("model.vision_tower.vision_model.", "model.vision_tower."),
)

_ORIGINAL = (
    ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
    ("model.vision_tower.vision_tower.", "model.vision_tower."),
    ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
    ("model.image_newline", "model.image_newline"),
    ("model.", "model.language_model."),
)

_CLIP_VISION = (("vision_model.", ""),)


def hub(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """llava-hf checkpoints, as saved before and since transformers 5."""
    return _renamed(key, tensor, _HUB)


def original(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """Checkpoints of the original LLaVA code (and ShareGPT4V), whose vision tower may be inside or elsewhere."""
    return _renamed(key, tensor, _ORIGINAL)


def original_with_tower(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """The original layout followed by the CLIP folder its vision tower comes from."""
    if key.startswith("vision_model."):
        return _renamed(key, tensor, (("vision_model.", "model.vision_tower."),))
    if key.startswith(("text_model.", "text_projection.", "visual_projection.", "logit_scale")):
        return {}
    return original(key, tensor)


def clip_vision(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """The vision tower of a CLIP checkpoint as a model of its own; the text side is dropped."""
    return _renamed(key, tensor, _CLIP_VISION) if key.startswith("vision_model.") else {}


def clip_text(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """The text tower and its projection; the vision side and the logit scale are dropped."""
    if key.startswith(("vision_model.", "visual_projection.", "logit_scale")) or key.endswith(_DERIVED):
        return {}
    return {key: tensor}


def _renamed(key: str, tensor: Tensor, table: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    if key.endswith(_DERIVED):
        return {}
    for old, new in table:
        if key.startswith(old):
            return {new + key.removeprefix(old): tensor}
    return {key: tensor}
