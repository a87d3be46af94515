"""Loading CLIP's text tower and projections, and its vision tower where that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import CLIPConfig, CLIPTextModelWithProjection, CLIPVisionModel

from hero_ray.core.errors import CheckpointError
from hero_ray.models.build import META, build, randomise
from hero_ray.models.checkpoints import llava
from hero_ray.models.checkpoints.plausible import read_config
from hero_ray.models.checkpoints.reader import entries, fill
from hero_ray.models.clip_text import ClipSide, TextPolicy
from hero_ray.models.sources import find_folder, is_clip
from hero_ray.models.tokenizer import FastTokenizer, StandInTokenizer

if TYPE_CHECKING:
    from hero_ray.models.job import Target

_BEGIN, _END = 49406, 49407
_VISUAL = "visual_projection.weight"


def load_clip(source: str, target: Target, vision: str, policy: TextPolicy, seed: int | None) -> ClipSide:
    """The CLIP side of a model.

    Args:
        source: folder or hub id with a `CLIPModel` layout; its vision tower may be absent if `vision` is `tower`.
        vision: `tower` or `openai`.
        seed: random weights of OpenAI's ViT-L/14-336 sizes instead of reading `source`.

    Raises:
        CheckpointError: not a CLIP, or weights missing.
    """
    if seed is not None and not Path(source).is_dir():
        return _random_clip(target, vision, policy, seed)
    folder = find_folder(source, is_clip)
    is_clip(read_config(folder), folder)
    config: Any = CLIPConfig.from_pretrained(folder)
    text = build(CLIPTextModelWithProjection, config.text_config, META, target.dtype, "sdpa")
    fill(text, [folder], llava.clip_text, target.device)
    projection = next((tensor for key, tensor in entries(folder, target.device) if key == _VISUAL), None)
    if projection is None:
        raise CheckpointError(f"{folder} lacks {_VISUAL}")
    tower = None
    if vision == "openai":
        tower = build(CLIPVisionModel, config.vision_config, META, target.dtype, "sdpa")
        fill(tower, [folder], llava.clip_vision, target.device)
    tokenizer = FastTokenizer(folder / "tokenizer.json") if (folder / "tokenizer.json").is_file() else None
    if tokenizer is None:
        raise CheckpointError(f"{folder} has no tokenizer.json for the text tower")
    positions = config.text_config.max_position_embeddings
    return ClipSide(text, projection, lambda words: tokenizer.encode(words)[0], positions, policy, tower)


def _random_clip(target: Target, vision: str, policy: TextPolicy, seed: int) -> ClipSide:
    shared: dict[str, Any] = {"intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = CLIPConfig(
        text_config={"hidden_size": 768, "projection_dim": 768, "eos_token_id": _END, **shared},
        vision_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
        },
        projection_dim=768,
    )
    text = build(CLIPTextModelWithProjection, config.text_config, target.device, target.dtype, "sdpa")
    randomise(text, seed)
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(768, 1024, generator=generator).mul_(1024**-0.5).to(target.device, target.dtype)
    tower = None
    if vision == "openai":
        tower = build(CLIPVisionModel, config.vision_config, target.device, target.dtype, "sdpa")
        randomise(tower, seed)
    words = StandInTokenizer(_BEGIN, {"<|startoftext|>": _BEGIN})
    return ClipSide(text, projection, lambda t: [_BEGIN, *words.encode(t)[0][1:], _END], 77, policy, tower)
