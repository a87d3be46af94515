"""The shapes of hero-tiny: a CLIP tower of many narrow layers and a small Llama behind LLaVA-NeXT's AnyRes."""

from typing import Any

from transformers import CLIPConfig, CLIPModel, LlavaNextConfig, LlavaNextForConditionalGeneration

from tools.tiny.tokenizer import BOS, CLIP_BOS, CLIP_EOS, EOS, IMAGE, PAD, vocabulary

TILE = 64
PATCH = 8
VISION_WIDTH = 64
TEXT_WIDTH = 96
# (height, width), as LLaVA-NeXT lists them.
PINPOINTS = [[64, 128], [128, 64], [128, 128]]
FEATURE_LAYER = -2
# Contrastive losses read CLS here: after the last layer, and half-way so that middle layers look at objects too.
MIDDLE_LAYER = 6
IMAGE_MEAN, IMAGE_STD = 0.5, 0.25

VISION_CONFIG = {
    "hidden_size": VISION_WIDTH,
    "intermediate_size": 3 * VISION_WIDTH,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
    "image_size": TILE,
    "patch_size": PATCH,
    "projection_dim": 64,
}


def word_id(word: str) -> int:
    """The id of a vocabulary word."""
    return vocabulary().index(word)


def clip_text_settings() -> dict[str, Any]:
    """A text tower of three layers over the same vocabulary as the language model."""
    return {
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
        "vocab_size": len(vocabulary()),
        "max_position_embeddings": 77,
        "projection_dim": 64,
        "bos_token_id": word_id(CLIP_BOS),
        "eos_token_id": word_id(CLIP_EOS),
        "pad_token_id": word_id(PAD),
    }


def clip_config() -> CLIPConfig:
    """Vision and text tower with a shared 64-dimensional space."""
    return CLIPConfig(text_config=clip_text_settings(), vision_config=VISION_CONFIG, projection_dim=64)


def llava_next_config() -> LlavaNextConfig:
    """LLaVA-NeXT over the tower: two heads of 48 and a large rotary base, both needed to look up over 340 tokens."""
    text = {
        "model_type": "llama",
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": len(vocabulary()),
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "bos_token_id": word_id(BOS),
        "eos_token_id": word_id(EOS),
        "pad_token_id": word_id(PAD),
        "tie_word_embeddings": False,
    }
    return LlavaNextConfig(
        vision_config={"model_type": "clip_vision_model", **VISION_CONFIG},
        text_config=text,
        image_token_index=word_id(IMAGE),
        image_grid_pinpoints=PINPOINTS,
        image_seq_length=(TILE // PATCH) ** 2,
        vision_feature_layer=FEATURE_LAYER,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )


def build_clip() -> CLIPModel:
    """A CLIP model with fresh weights."""
    return CLIPModel(clip_config())


def build_llava_next() -> LlavaNextForConditionalGeneration:
    """A LLaVA-NeXT model with fresh weights."""
    return LlavaNextForConditionalGeneration(llava_next_config())
