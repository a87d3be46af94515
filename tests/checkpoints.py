"""Folders in the true layouts of released checkpoints, with tiny random weights: what a model's family may be made of.

Chat templates say what the released ones say, in words of their own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from hero_ray.models import miniature
from hero_ray.models.checkpoints import internvl2

VOCAB = 320
SPECIALS = (
    *("<s>", "</s>", "<pad>", "<image>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>"),
    *("<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    *("<img>", "</img>", "<IMG_CONTEXT>", "<|endoftext|>"),
)
ID = {token: number for number, token in enumerate(SPECIALS, start=256)}

_PARTS = (
    "{% for part in m.content if part.type == 'image' %}PICTURE\n{% endfor %}"
    "{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
)


def _chat(opening: str, closing: str, answer: str, picture: str = "<image>", head: str = "") -> str:
    parts = _PARTS.replace("PICTURE", picture)
    turn = f"{{{{ {opening!r} }}}}{parts}{{{{ {closing!r} }}}}"
    return (
        head + "{% for m in messages %}" + turn + "{% endfor %}{% if add_generation_prompt %}{{ " + repr(answer) + " }}"
        "{% endif %}"
    )


TEMPLATES = {
    "vicuna": _chat("USER: ", " ", "ASSISTANT:"),
    "mistral": _chat("[INST] ", " [/INST]", ""),
    "llama-3": _chat(
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        head="{{ bos_token }}",
    ),
    "chatml": _chat(
        "<|im_start|>user\n",
        "<|im_end|>",
        "<|im_start|>assistant\n",
        head="{{ '<|im_start|>system\nAnswer the questions.<|im_end|>' }}",
    ),
    "qwen": _chat(
        "<|im_start|>user\n",
        "<|im_end|>\n",
        "<|im_start|>assistant\n",
        head="{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}",
    ),
    # As the conversion script writes it: the picture on the role's line, the question below.
    "onevision": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + ' ' }}"
        "{% for part in m.content if part.type == 'image' %}<image>{% endfor %}"
        "{% for part in m.content if part.type == 'video' %}<video>{% endfor %}"
        "{% for part in m.content if part.type == 'text' %}{{ '\n' + part.text }}{% endfor %}{{ '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "internvl-hf": _chat("<|im_start|>user\n", "<|im_end|>\n", "<|im_start|>assistant\n", "<IMG_CONTEXT>"),
}


def text_config(kind: str, **changes: Any) -> Any:
    """A language model of four blocks and eight heads over two key-value heads."""
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": ID["<s>"],
        "eos_token_id": ID["</s>"],
        "pad_token_id": ID["<pad>"],
        "tie_word_embeddings": False,
    }
    classes = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}
    classes |= {"qwen3": Qwen3Config, "phi3": Phi3Config}
    changes = json.loads(json.dumps(changes))
    own: dict[str, dict[str, Any]] = {"qwen3": {"head_dim": 16}, "mistral": {"sliding_window": None}}
    said = sizes | own.get(kind, {}) | changes
    if said.get("rope_scaling", {}).get("type") == "su":  # transformers knows it by its later name alone
        original = said["original_max_position_embeddings"]
        said["rope_scaling"] |= {"type": "longrope", "original_max_position_embeddings": original}
    return classes[kind](**said)


@dataclass(frozen=True)
class Chosen:
    """One released checkpoint, in what matters to a loader."""

    kind: str
    template: str
    begin: str | None = None
    end: tuple[str, ...] = ("</s>",)
    text: dict[str, Any] = field(default_factory=dict)
    large: bool = False


LLAVA_NEXT = {
    "vicuna-7b": Chosen("llama", "vicuna", "<s>", text={"num_key_value_heads": 8}),
    "mistral-7b": Chosen(
        "mistral", "mistral", "<s>", text={"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    ),
    "mistral-window": Chosen("mistral", "mistral", "<s>", text={"sliding_window": 40}),
    "llama3-8b": Chosen("llama", "llama-3", "<|begin_of_text|>", ("<|end_of_text|>", "<|eot_id|>")),
    "34b": Chosen("llama", "chatml", None, ("<|im_end|>",)),
    "72b": Chosen("qwen2", "qwen", None, ("<|endoftext|>", "<|im_end|>")),
    "qwen2-window": Chosen(
        "qwen2",
        "qwen",
        None,
        ("<|im_end|>",),
        {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 2},
    ),
}
_DYNAMIC = {"rope_theta": 1e6, "rope_scaling": {"type": "dynamic", "factor": 2.0}}
_TURN = ("<|im_end|>",)
_PHI = {
    "rope_scaling": {"type": "su", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [4.0, 5.0, 6.0, 7.0]},
    "original_max_position_embeddings": 60,
    "sliding_window": 2047,
}
# Every dense InternVL2 to 3.5: language model, conversation, and which of the two towers it has.
INTERNVL = {
    "internvl2-1b": Chosen("qwen2", "Hermes-2", None, _TURN),
    "internvl2-2b": Chosen("internlm2", "internlm2-chat", "<s>", _TURN, _DYNAMIC),
    "internvl2-4b": Chosen("phi3", "phi3-chat", "<s>", ("<|end|>", "<|endoftext|>"), _PHI),
    "internvl2-8b": Chosen("internlm2", "internlm2-chat", "<s>", _TURN, _DYNAMIC),
    "internvl2-26b": Chosen("internlm2", "internlm2-chat", "<s>", _TURN, _DYNAMIC, large=True),
    "internvl2-40b": Chosen("llama", "Hermes-2", "<s>", _TURN, {"rope_theta": 5e6}, large=True),
    "internvl2-76b": Chosen("llama", "internlm2-chat", "<|begin_of_text|>", _TURN, {"rope_theta": 5e5}, large=True),
    "internvl2_5-1b": Chosen("qwen2", "internvl2_5", None, _TURN, {"tie_word_embeddings": True}),
    "internvl2_5-2b": Chosen("internlm2", "internvl2_5", "<s>", _TURN, _DYNAMIC),
    "internvl2_5-4b": Chosen("qwen2", "internvl2_5", None, _TURN, {"rope_theta": 1e6, "tie_word_embeddings": True}),
    "internvl2_5-8b": Chosen("internlm2", "internvl2_5", "<s>", _TURN, _DYNAMIC),
    "internvl2_5-26b": Chosen("internlm2", "internvl2_5", "<s>", _TURN, _DYNAMIC, large=True),
    "internvl2_5-38b": Chosen("qwen2", "internvl2_5", None, _TURN, {"rope_theta": 1e6}, large=True),
    "internvl2_5-78b": Chosen("qwen2", "internvl2_5", None, _TURN, {"rope_theta": 1e6}, large=True),
    "internvl3-1b": Chosen("qwen2", "internvl2_5", None, _TURN),
    "internvl3-2b": Chosen("qwen2", "internvl2_5", None, _TURN, _DYNAMIC),
    "internvl3-8b": Chosen(
        "qwen2",
        "internvl2_5",
        None,
        _TURN,
        {"rope_theta": 1e6, "rope_scaling": {"type": "dynamic", "rope_type": "dynamic", "factor": 2.0}},
    ),
    "internvl3-14b": Chosen("qwen2", "internvl2_5", None, _TURN, _DYNAMIC),
    "internvl3-38b": Chosen("qwen2", "internvl2_5", None, _TURN, _DYNAMIC, large=True),
    "internvl3-78b": Chosen("qwen2", "internvl2_5", None, _TURN, _DYNAMIC, large=True),
    "internvl3_5-1b": Chosen("qwen3", "internvl2_5", None, _TURN, {"tie_word_embeddings": True}),
    "internvl3_5-2b": Chosen("qwen3", "internvl2_5", None, _TURN, {"rope_theta": 1e6}),
    "internvl3_5-4b": Chosen("qwen3", "internvl2_5", None, _TURN, {"rope_theta": 1e6}),
    "internvl3_5-8b": Chosen("qwen3", "internvl2_5", None, _TURN),
    "internvl3_5-14b": Chosen("qwen3", "internvl2_5", None, _TURN, {"rope_theta": 1e6}),
    "internvl3_5-38b": Chosen("qwen3", "internvl2_5", None, _TURN, {"rope_theta": 1e6}, large=True),
}


def kinds(chosen: dict[str, Chosen]) -> list[str]:
    """The first name of every kind: sizes of one family often differ in their numbers alone."""
    return [name for place, name in enumerate(chosen) if chosen[name] not in list(chosen.values())[:place]]


def tokenizer(begin: str | None) -> Tokenizer:
    """Bytes and the special tokens of every family; `begin` comes first where it is given."""
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    built = Tokenizer(models.BPE(vocab=alphabet | ID, merges=[]))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens(list(SPECIALS))
    if begin is not None:
        built.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, ID[begin])])
    return built


def write_tokenizer(folder: Path, chosen: Chosen, template: str | None) -> Any:
    """tokenizer.json, tokenizer_config.json, generation_config.json; transformers' tokenizer of the same."""
    tokenizer(chosen.begin).save(str(folder / "tokenizer.json"))
    said = {"eos_token": chosen.end[0], "pad_token": "<pad>", "tokenizer_class": "PreTrainedTokenizerFast"}
    said |= {"bos_token": chosen.begin} if chosen.begin else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    ends = [ID[token] for token in chosen.end]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends if len(ends) > 1 else ends[0]}))
    if template is not None:
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    return PreTrainedTokenizerFast.from_pretrained(folder)


def llava_next(chosen: Chosen, folder: Path, seed: int = 0) -> Any:
    """A llava-hf folder as the conversion script leaves it; the stock model that was saved."""
    config = LlavaNextConfig(
        vision_config=miniature.vision_config(),
        text_config=text_config(chosen.kind, **chosen.text),
        image_token_index=ID["<image>"],
        image_grid_pinpoints=[[h * miniature.TILE // 336, w * miniature.TILE // 336] for h, w in PINPOINTS],
        vision_feature_layer=-2,
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    stock = widened(LlavaNextForConditionalGeneration(config), seed)
    return _saved(stock, chosen, folder)


PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


def llava_15(chosen: Chosen, folder: Path, seed: int = 0) -> Any:
    """A LLaVA-1.5 relative over another language model, in the hub's layout."""
    config = LlavaConfig(
        vision_config=miniature.vision_config(),
        text_config=text_config(chosen.kind, **chosen.text),
        image_token_index=ID["<image>"],
        vision_feature_layer=-2,
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    return _saved(widened(LlavaForConditionalGeneration(config), seed), chosen, folder)


def _saved(stock: Any, chosen: Chosen, folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    stock.save_pretrained(folder)
    write_tokenizer(folder, chosen, TEMPLATES[chosen.template])
    settings = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "do_rescale": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return stock


ONEVISION = {
    "onevision-0.5b": Chosen("qwen2", "onevision", None, ("<|im_end|>",), {"tie_word_embeddings": True}),
    "onevision-7b": Chosen("qwen2", "onevision", None, ("<|im_end|>", "<|endoftext|>"), {"rope_theta": 1e6}),
}


def llava_onevision(chosen: Chosen, folder: Path, most: int = 3) -> Any:
    """A LLaVA-OneVision as the conversion script left it before transformers 5; the stock model with its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    text = text_config(chosen.kind, **chosen.text)
    stock = widened(miniature.llava_onevision(most=most, text=text, image_id=ID["<image>"]), 0)
    config = stock.config.to_dict() | {"architectures": ["LlavaOnevisionForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(config))
    names = (("model.language_model.", "language_model.model."), ("model.vision_tower.", "vision_tower.vision_model."))
    names += (("lm_head.", "language_model.lm_head."), ("model.", ""))
    released = {}
    for name, tensor in stock.state_dict().items():
        old, new = next(pair for pair in names if name.startswith(pair[0]))
        if not (text.tie_word_embeddings and old == "lm_head."):
            released[new + name.removeprefix(old)] = tensor.clone()
    save_file(released, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder, chosen, TEMPLATES[chosen.template])
    edge = stock.config.vision_config.image_size
    settings = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3, "do_pad": True}
    settings |= {"image_grid_pinpoints": stock.config.image_grid_pinpoints, "size": {"height": edge, "width": edge}}
    settings |= {"image_processor_type": "LlavaOnevisionImageProcessor", "processor_class": "LlavaOnevisionProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    said = {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "image_token": "<image>"}
    (folder / "processor_config.json").write_text(json.dumps(said | {"processor_class": "LlavaOnevisionProcessor"}))
    return stock


def internvl_model(chosen: Chosen, seed: int = 0) -> Any:
    """A stock InternVL; a `large` one has what InternViT-6B has: normed queries and keys, RMS norms, no biases."""
    kind, changes, large = chosen.kind, dict(chosen.text), chosen.large
    if kind == "internlm2":  # a Llama to transformers; its scaling begins beyond the context
        kind, changes = "llama", {key: value for key, value in changes.items() if key != "rope_scaling"}
    text = text_config(kind, **changes)
    vision = InternVLVisionConfig(
        hidden_size=40 if large else 32,
        num_hidden_layers=4,
        num_attention_heads=5 if large else 4,
        intermediate_size=64,
        image_size=56,
        patch_size=14,
        attention_bias=not large,
        use_qk_norm=large,
        norm_type="rms_norm" if large else "layer_norm",
        use_mean_pooling=True,
        layer_scale_init_value=0.7,
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=ID["<IMG_CONTEXT>"],
        image_seq_length=4,
        downsample_ratio=0.5,
        vision_feature_layer=-1,
        tie_word_embeddings=text.tie_word_embeddings,
    )
    return widened(InternVLForConditionalGeneration(config), seed)


ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}


def internvl_chat(chosen: Chosen, folder: Path) -> Any:
    """A folder in OpenGVLab's layout; the stock model with the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
    stock = internvl_model(chosen)
    if chosen.kind == "internlm2":
        internvl2.write(stock, folder, {"template": chosen.template, "max_dynamic_patch": 4})
        raw = json.loads((folder / "config.json").read_text())
        raw["llm_config"] |= chosen.text
        (folder / "config.json").write_text(json.dumps(raw))
        write_tokenizer(folder, chosen, None)
        return stock
    # The language model keeps transformers' names there; tower and projector are as in every size.
    scratch = internvl2.write(_with_llama(stock, chosen.large), folder)
    released = {k: v for k, v in load_file(scratch / "model.safetensors").items() if "language_model" not in k}
    for name, tensor in stock.state_dict().items():
        if name.startswith("model.language_model."):
            released["language_model.model." + name.removeprefix("model.language_model.")] = tensor.clone()
    if not stock.config.text_config.tie_word_embeddings:
        released["language_model.lm_head.weight"] = stock.lm_head.weight.clone()
    save_file(released, folder / "model.safetensors", metadata={"format": "pt"})
    said = text_config(chosen.kind).to_diff_dict()
    said = {key: value for key, value in said.items() if key != "rope_parameters"} | chosen.text
    said |= {key: getattr(stock.config.text_config, key) for key in ("hidden_act", "rms_norm_eps")}
    said |= {"architectures": [ARCHITECTURES[chosen.kind]], "torch_dtype": "bfloat16"}
    raw = json.loads((folder / "config.json").read_text())
    raw |= {"llm_config": said, "template": chosen.template, "max_dynamic_patch": 4}
    (folder / "config.json").write_text(json.dumps(raw))
    write_tokenizer(folder, chosen, None)
    return stock


def _with_llama(stock: Any, large: bool) -> Any:
    """The same tower and projector over a Llama, whose layout the package can write."""
    double = internvl_model(Chosen("llama", "", large=large))
    for part in ("vision_tower", "multi_modal_projector"):
        getattr(double.model, part).load_state_dict(getattr(stock.model, part).state_dict())
    return double


def internvl_hf(chosen: Chosen, folder: Path) -> Any:
    """A folder in transformers' own InternVL layout; the stock model."""
    folder.mkdir(parents=True, exist_ok=True)
    stock = internvl_model(chosen)
    stock.save_pretrained(folder)
    write_tokenizer(folder, chosen, TEMPLATES["internvl-hf"])
    settings = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "max_patches": 4}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"crop_to_patches": True}))
    return stock


@torch.no_grad()
def widened(model: Any, seed: int) -> Any:
    """Weights drawn anew, biases and norms too, wide enough for answers to differ."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.dim() >= 2 or "newline" in name or "class_embedding" in name:
            weight.copy_(noise * (2.0 / weight.shape[-1] ** 0.5 if "language_model" in name else 0.25))
        elif "language_model" in name:
            weight.copy_(noise * 0.2 + (0.0 if name.endswith("bias") else 1.0))
    return model.eval().requires_grad_(False)


_ORIGINAL_NAMES = {
    "model.language_model.": "model.",
    "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.",
    "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
    "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
}
_MODEL_TYPES = {"llama": "llava_llama", "mistral": "llava_mistral", "qwen2": "llava_qwen"}


def original_llava_next(chosen: Chosen, folder: Path) -> Any:
    """A folder as the original code saved LLaVA-NeXT, tower inside; the stock model with the same weights."""
    stock = llava_next(chosen, folder / "hub")
    state = {}
    for name, tensor in stock.state_dict().items():
        old = next((prefix for prefix in _ORIGINAL_NAMES if name.startswith(prefix)), "")
        state[_ORIGINAL_NAMES.get(old, "") + name.removeprefix(old)] = tensor.clone()
    save_file(state, folder / "model.safetensors")
    miniature.write_clip(miniature.clip(), folder / "tower")
    text = stock.config.text_config.to_dict()
    raw = {key: value for key, value in text.items() if key not in ("model_type", "architectures")} | {
        "model_type": _MODEL_TYPES[chosen.kind],
        "mm_vision_tower": str(folder / "tower"),
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_patch_merge_type": "spatial_unpad",
        "image_aspect_ratio": "anyres",
        # (width, height) here, where transformers says (height, width)
        "image_grid_pinpoints": [[w, h] for h, w in stock.config.image_grid_pinpoints],
    }
    (folder / "config.json").write_text(json.dumps(raw))
    write_tokenizer(folder, chosen, None)
    known = json.loads((folder / "tokenizer.json").read_text())
    known["added_tokens"] = [entry for entry in known["added_tokens"] if entry["content"] != "<image>"]
    del known["model"]["vocab"]["<image>"]
    (folder / "tokenizer.json").write_text(json.dumps(known))
    return stock
