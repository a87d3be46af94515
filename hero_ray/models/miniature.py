"""Miniature checkpoints: the true architecture and file layout of a family at a toy size, with random weights.

For tests, `hero-ray doctor --model miniature` and anyone who writes an adapter. Weights are drawn wide enough for
greedy answers to vary with the prompt.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from hero_ray.models.configs import LLAVA_NEXT_PINPOINTS

VOCAB = 160
IMAGE_ID = 150
TILE, PATCH = 56, 14


def vision_config(layers: int = 6) -> CLIPVisionConfig:
    """A CLIP tower of 16 patches per view."""
    return CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        image_size=TILE,
        patch_size=PATCH,
        projection_dim=16,
    )


def text_config(layers: int = 4, kv_heads: int = 4) -> LlamaConfig:
    """A Llama of 8 query heads; `kv_heads` below 8 groups them."""
    return LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )


def llava_next(seed: int = 0) -> Any:
    """A stock LLaVA-NeXT with the five grids of the real one."""
    config = LlavaNextConfig(
        vision_config=vision_config(),
        text_config=text_config(),
        image_token_index=IMAGE_ID,
        image_grid_pinpoints=[[h * TILE // 336, w * TILE // 336] for h, w in LLAVA_NEXT_PINPOINTS],
        vision_feature_layer=-2,
        image_seq_length=(TILE // PATCH) ** 2,
        tie_word_embeddings=False,
    )
    return _widened(LlavaNextForConditionalGeneration(config), seed)


def llava_15(seed: int = 0) -> Any:
    """A stock LLaVA-1.5."""
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text_config(),
        image_token_index=IMAGE_ID,
        vision_feature_layer=-2,
        image_seq_length=(TILE // PATCH) ** 2,
        tie_word_embeddings=False,
    )
    return _widened(LlavaForConditionalGeneration(config), seed)


def clip(seed: int = 0) -> Any:
    """A stock CLIP whose vision tower has the sizes of `vision_config`; 20 text positions."""
    text = {
        "vocab_size": VOCAB,
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 20,
        "projection_dim": 16,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    config = CLIPConfig(text_config=text, vision_config=vision_config().to_dict(), projection_dim=16)
    return _widened(CLIPModel(config), seed)


def write_llava(model: Any, folder: Path, clip_model: Any = None) -> Path:
    """Save as a llava-hf folder with tokenizer and settings; the text side of `clip_model` goes to `clip/`."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer(end=None).save(str(folder / "tokenizer.json"))
    settings = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "do_rescale": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    if clip_model is not None:
        write_clip(clip_model, folder / "clip", with_vision=False)
    return folder


def write_clip(model: Any, folder: Path, with_vision: bool = True) -> Path:
    """Save in the layout of a CLIP checkpoint, the vision tower on request."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith("position_ids") and (with_vision or not name.startswith("vision_model."))
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config.to_dict() | {"architectures": ["CLIPModel"]}))
    tokenizer(end="</s>").save(str(folder / "tokenizer.json"))
    return folder


def tokenizer(end: str | None) -> Tokenizer:
    """One token per character of a small alphabet."""
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,?!:'\n"
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "<image>": IMAGE_ID}
    words |= {letter: number for number, letter in enumerate(alphabet, start=4)}
    built = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    built.add_special_tokens(["<pad>", "<s>", "</s>", "<image>"])
    template = f"<s> $A {end}" if end else "<s> $A"
    built.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 1)] + ([(end, 2)] if end else [])
    )
    return built


@torch.no_grad()
def _widened(model: Any, seed: int) -> Any:
    """Weights drawn anew: with transformers' own scale all toy prompts give the same answer."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() >= 2 or "newline" in name or "class_embedding" in name:
            scale = 2.0 / weight.shape[-1] ** 0.5 if "language_model" in name else 0.25
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    return model.eval().requires_grad_(False)
