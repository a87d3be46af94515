"""Miniature checkpoints: the true architecture and file layout of a family at a toy size, with random weights.

For tests, `hero-ray doctor --model miniature` and anyone who writes an adapter. Weights are drawn wide enough for
greedy answers to vary with the prompt.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from hero_ray.models.checkpoints import internvl2 as checkpoint
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
    return widened(LlavaNextForConditionalGeneration(config), seed)


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
    return widened(LlavaForConditionalGeneration(config), seed)


def llava_onevision(seed: int = 0, most: int = 3, text: Any = None, image_id: int = IMAGE_ID) -> Any:
    """A stock LLaVA-OneVision: canvases up to 3 x 3 of views of 16 patches, the mosaic brought down to `most` views.

    As in the released tower, a view's edge (60) is no multiple of its patches (14).
    """
    edges = [TILE + 4, 2 * (TILE + 4), 3 * (TILE + 4)]
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=5,
        num_attention_heads=4,
        image_size=TILE + 4,
        patch_size=PATCH,
        vision_use_head=False,
    )
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text or _qwen2(),
        image_token_index=image_id,
        video_token_index=image_id + 1,
        image_grid_pinpoints=[[height, width] for height in edges for width in edges],
        vision_aspect_ratio=f"anyres_max_{most}",
    )
    return widened(LlavaOnevisionForConditionalGeneration(config), seed)


TEXT_SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"),
)


def _qwen2() -> Qwen2Config:
    sizes = text_config().to_dict()
    return Qwen2Config(**{key: sizes[key] for key in TEXT_SIZES}, tie_word_embeddings=False)


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
    return widened(CLIPModel(config), seed)


def internvl2(seed: int = 0, kv_heads: int = 2) -> Any:
    """A stock InternVL over a Llama with grouped heads: 4 tokens per view of 16 patches."""
    vision = InternVLVisionConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=TILE,
        patch_size=PATCH,
        attention_bias=True,
        use_mean_pooling=True,
        layer_scale_init_value=0.7,
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=text_config(kv_heads=kv_heads),
        image_token_id=IMAGE_ID,
        image_seq_length=4,
        downsample_ratio=0.5,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    return widened(InternVLForConditionalGeneration(config), seed)


def write_internvl2(model: Any, folder: Path) -> Path:
    """Save in OpenGVLab's layout, with a sentencepiece tokenizer trained on the spot."""
    checkpoint.write(model, folder, {"max_dynamic_patch": 4, "system_message": "be brief."})
    specials = {"<|im_start|>": 152, "<|im_end|>": 153, "<img>": 154, "</img>": 155, "<IMG_CONTEXT>": IMAGE_ID}
    train_sentencepiece(folder / "tokenizer.model")
    added = {str(number): {"content": token, "special": True} for token, number in specials.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    return folder


def train_sentencepiece(path: Path, dummy_prefix: bool = True, size: int = 120, byte_fallback: bool = False) -> Path:
    """A small byte-pair model of everyday question words; with byte fallback give it a size above 330."""
    words = "what colour is the shape on how many objects are there in image left right top answer with one word brief"
    sentences = [" ".join([*words.split()[start:], f"{start}?", words[start:9].upper()]) for start in range(12)] * 4
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=(writer := io.BytesIO()),
        vocab_size=size,
        model_type="bpe",
        character_coverage=1.0,
        add_dummy_prefix=dummy_prefix,
        byte_fallback=byte_fallback,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    path.write_bytes(writer.getvalue())
    return path


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


def tokenizer(end: str | None, picture: str = "<image>") -> Tokenizer:
    """One token per character of a small alphabet; `picture` is the text of the picture's token."""
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,?!:'\n"
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, picture: IMAGE_ID}
    words |= {letter: number for number, letter in enumerate(alphabet, start=4)}
    built = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    built.add_special_tokens(["<pad>", "<s>", "</s>", picture])
    template = f"<s> $A {end}" if end else "<s> $A"
    built.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 1)] + ([(end, 2)] if end else [])
    )
    return built


@torch.no_grad()
def widened(model: Any, seed: int) -> Any:
    """Weights drawn anew: with transformers' own scale all toy prompts give the same answer."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() >= 2 or "newline" in name or "class_embedding" in name:
            scale = 2.0 / weight.shape[-1] ** 0.5 if "language_model" in name else 0.25
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    return model.eval().requires_grad_(False)
