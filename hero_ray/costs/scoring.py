"""What a method adds before the LLM, with the sizes of the towers that are really there."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from hero_ray.core.encoded import Needs
from hero_ray.core.layout import Layout
from hero_ray.costs import costs
from hero_ray.models.base import Adapter, Prompt, VisionShape


def method_scoring(adapter: Adapter, needs: Needs, layout: Layout, prompt: Prompt, question: str) -> float:
    """FLOPs of capturing what a method reads for one answer: CLS rows, CLIP text, LLM rows, a second tower.

    Args:
        adapter: its `clip`, where it has one, is loaded by this.
        needs: what the method reads; empty where it is bypassed.
    """
    if needs == Needs():
        return 0.0
    clip = adapter.clip if needs.clip else None
    if clip is None:  # a family without a paired text tower answers these needs with nothing
        needs = replace(needs, clip_score=False, clip_tokens=False, clip_words=False)
    flops = partial(
        costs.scoring_flops,
        replace(adapter.info, vision=costs.at_view(adapter.info.vision, layout.side)),
        needs,
        layout.num_views,
        prompt_tokens=prompt.num_text + layout.sequence.shape[0],
        query_tokens=prompt.instruction[1] - prompt.instruction[0],
    )
    if clip is None:
        return flops()
    sizes = clip.text_model.config
    tower = costs.TextTowerShape(
        sizes.num_hidden_layers, sizes.hidden_size, sizes.intermediate_size, sizes.projection_dim
    )
    length = min(clip.positions, len(clip.encode(question.strip())))
    return flops(text_tower=tower, clip_tokens=length) + _own_tower(clip, layout.num_views)


def _own_tower(clip: Any, views: int) -> float:
    """CLIP's own vision tower, where the model's is not used for scores: a second encode."""
    if clip.vision_model is None:
        return 0.0
    sizes = clip.vision_model.config
    tokens = (sizes.image_size // sizes.patch_size) ** 2 + 1
    depth, width = sizes.num_hidden_layers, sizes.hidden_size
    shape = VisionShape(
        depth, depth, width, sizes.intermediate_size, sizes.num_attention_heads, tokens, sizes.patch_size, (width,)
    )
    return costs.encoder_flops(shape, views)
