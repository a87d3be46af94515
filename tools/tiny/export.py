"""Write a trained model as a folder that others can load: `python -m tools.tiny.export`.

hero-tiny loads with `LlavaNextForConditionalGeneration.from_pretrained`. Its `clip/` holds what CLIP has beyond the
vision tower: text tower, both projections and the logit scale, under the names of a `CLIPModel` checkpoint.
hero-tiny-internvl is written in the layout of OpenGVLab's InternVL2 folders, `tokenizer.model` included, and
hero-tiny-qwen in that of Qwen's Qwen2.5-VL ones.
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from transformers import (
    CLIPModel,
    GenerationConfig,
    InternVLForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from hero_ray.core.errors import CheckpointError
from hero_ray.models.checkpoints import internvl2
from hero_ray.models.registry import EMBEDDED_WEIGHTS
from tools.tiny.architecture import (
    IMAGE_MEAN,
    IMAGE_STD,
    PATCH,
    PINPOINTS,
    TILE,
    build_clip,
    build_llava_next,
    clip_config,
    word_id,
)
from tools.tiny.export_qwen import export_qwen
from tools.tiny.internvl import MAX_TILES, build_internvl
from tools.tiny.piece_tokenizer import SYSTEM, save_pieces
from tools.tiny.qwen import build_qwen
from tools.tiny.stages import STAGES
from tools.tiny.tokenizer import BOS, EOS, IMAGE, PAD, language_tokenizer, save_tokenizers

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: "
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }} {% endfor %}"
    "{% else %}ASSISTANT: {% for part in message['content'] if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endfor %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def image_processor() -> LlavaNextImageProcessorPil:
    """LLaVA-NeXT's processing at 64 pixels. The PIL class by name: the default one changes pixels with torchvision."""
    return LlavaNextImageProcessorPil(
        size={"shortest_edge": TILE},
        crop_size={"height": TILE, "width": TILE},
        image_mean=[IMAGE_MEAN] * 3,
        image_std=[IMAGE_STD] * 3,
        image_grid_pinpoints=PINPOINTS,
    )


def processor() -> LlavaNextProcessor:
    """Image processor and tokenizer together."""
    return LlavaNextProcessor(
        image_processor=image_processor(),
        tokenizer=language_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE,
        num_additional_image_tokens=1,
    )


def export_folder(model: LlavaNextForConditionalGeneration, clip: CLIPModel, folder: Path) -> None:
    """Write model, processor, tokenizers and the CLIP remainder in fp32."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(hub_state(model), folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures, model.config.dtype = ["LlavaNextForConditionalGeneration"], "float32"
    (folder / "config.json").write_text(model.config.to_json_string())
    GenerationConfig(
        bos_token_id=word_id(BOS),
        eos_token_id=word_id(EOS),
        pad_token_id=word_id(PAD),
        do_sample=False,
        max_new_tokens=4,
    ).save_pretrained(folder)
    processor().save_pretrained(folder)
    _write_preprocessor(folder)
    save_tokenizers(folder)
    _export_clip(clip, folder / "clip")


def hub_state(model: LlavaNextForConditionalGeneration) -> dict[str, torch.Tensor]:
    """The weights under the names of published LLaVA-NeXT checkpoints, which every transformers release maps.

    Module names inside transformers have moved between releases; these have not.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        for inside, published in _PUBLISHED_NAMES.items():
            if name.startswith(inside):
                state[published + name.removeprefix(inside)] = tensor.contiguous()
                break
        else:
            raise CheckpointError(f"no published name for the weight {name!r}; add its prefix to the table")
    return state


# First match wins: the tower's inner module exists in some releases of transformers and not in others.
_PUBLISHED_NAMES = {
    "model.vision_tower.vision_model.": "vision_tower.vision_model.",
    "model.vision_tower.": "vision_tower.vision_model.",
    "model.language_model.": "language_model.model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "model.image_newline": "image_newline",
    "lm_head.": "language_model.lm_head.",
}


def _write_preprocessor(folder: Path) -> None:
    """The classic file beside the newer joint one, for readers that know only the former."""
    settings = image_processor().to_dict()
    settings |= {"image_processor_type": "LlavaNextImageProcessor", "processor_class": "LlavaNextProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def _export_clip(clip: CLIPModel, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        name: tensor.contiguous()
        for name, tensor in clip.state_dict().items()
        if not name.startswith("vision_model.") and not name.endswith("position_ids")
    }
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    config = clip_config()
    config.architectures = ["CLIPModel"]
    (folder / "config.json").write_text(config.to_json_string())


def _write_llava_next(checkpoint: Path, out: Path) -> None:
    clip, model = build_clip(), build_llava_next()
    clip.load_state_dict(torch.load(checkpoint.with_name("tower.pt"), weights_only=True))
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    export_folder(model, clip, out)


def _write_internvl(checkpoint: Path, out: Path) -> None:
    model = build_internvl()
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    export_internvl(model, out)


def export_internvl(model: InternVLForConditionalGeneration, folder: Path) -> None:
    """Write an InternVL model with its tokenizer in OpenGVLab's layout."""
    settings = {"max_dynamic_patch": MAX_TILES, "system_message": SYSTEM, "torch_dtype": "float32"}
    internvl2.write(model, folder, settings)
    save_pieces(folder)


def _write_qwen(checkpoint: Path, out: Path) -> None:
    model = build_qwen()
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    export_qwen(model, out)


_WRITERS = {"hero-tiny": _write_llava_next, "hero-tiny-internvl": _write_internvl, "hero-tiny-qwen": _write_qwen}


def export(
    model: Annotated[str, typer.Option(help="hero-tiny, hero-tiny-internvl or hero-tiny-qwen.")] = "hero-tiny",
    checkpoints: Annotated[Path | None, typer.Option(help="Folder the training wrote; runs/MODEL by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; inside the package by default.")] = None,
    stage: Annotated[str, typer.Option(help="Checkpoint; STAGE-unfinished is a half-way state.")] = STAGES[-1],
) -> None:
    """Turn training checkpoints into a model folder."""
    if model not in _WRITERS:
        raise typer.BadParameter(f"unknown model {model!r}; known: {', '.join(_WRITERS)}")
    out = out or EMBEDDED_WEIGHTS / model
    checkpoint = (checkpoints or Path("runs") / model) / f"{stage}.pt"
    if not checkpoint.is_file():
        raise typer.BadParameter(f"{checkpoint} is not there; run `python -m tools.tiny.train --model {model}` first")
    _WRITERS[model](checkpoint, out)
    files = [file for file in out.rglob("*") if file.is_file()]
    for file in files:
        file.chmod(0o644)
    typer.echo(f"wrote {out}: {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(export)
