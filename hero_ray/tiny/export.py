"""Write a trained hero-tiny as a Hugging Face folder: `python -m hero_ray.tiny.export`.

The folder loads with `LlavaNextForConditionalGeneration.from_pretrained`. Its `clip/` holds what CLIP has beyond the
vision tower: text tower, both projections and the logit scale, under the names of a `CLIPModel` checkpoint.
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from transformers import CLIPModel, GenerationConfig, LlavaNextForConditionalGeneration, LlavaNextProcessor
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from hero_ray.errors import CheckpointError
from hero_ray.tiny.architecture import (
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
from hero_ray.tiny.tokenizer import BOS, EOS, IMAGE, PAD, language_tokenizer, save_tokenizers

WEIGHTS = Path(__file__).parent / "weights" / "hero-tiny"
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


def export(
    checkpoints: Annotated[Path, typer.Option(help="Folder the training wrote.")] = Path("runs/hero-tiny"),
    out: Annotated[Path, typer.Option(help="Folder to write.")] = WEIGHTS,
    unfinished: Annotated[bool, typer.Option(help="Take the half-way state of the last stage.")] = False,
) -> None:
    """Turn training checkpoints into a folder any LLaVA-NeXT loader reads."""
    clip, model = build_clip(), build_llava_next()
    clip.load_state_dict(torch.load(checkpoints / "tower.pt", weights_only=True))
    name = "anyres-unfinished.pt" if unfinished else "anyres.pt"
    model.load_state_dict(torch.load(checkpoints / name, weights_only=True))
    export_folder(model, clip, out)
    files = [file for file in out.rglob("*") if file.is_file()]
    for file in files:
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in files)
    typer.echo(f"wrote {out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(export)
