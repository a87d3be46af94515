"""From a folder (or known sizes) to the parts of an adapter, family by family."""

from __future__ import annotations

from typing import Any

import transformers

from hero_ray.core.errors import CheckpointError, ParameterError
from hero_ray.models import configs, qwen_shapes
from hero_ray.models.asking import end_tokens
from hero_ray.models.checkpoints import internvl2, llava, qwen
from hero_ray.models.checkpoints.plausible import read_config
from hero_ray.models.checkpoints.reader import fill, keys
from hero_ray.models.family import Parts
from hero_ray.models.job import LoadJob
from hero_ray.models.prompts import IMAGE, IMAGE_PAD
from hero_ray.models.settings import check_views, internvl_pixels, read_settings
from hero_ray.models.shapes import shape
from hero_ray.models.sources import find_folder, is_clip
from hero_ray.models.supported import is_original_llava
from hero_ray.models.tokenizer import StandInTokenizer, Tokenizer, read_tokenizer

# Where InternVL2's special tokens stand in the released vocabulary; used only when there is no tokenizer to ask.
_STAND_IN = {
    "<|im_end|>": 92542,
    "<|im_start|>": 92543,
    internvl2.IMAGE_START: 92544,
    internvl2.IMAGE_END: 92545,
    internvl2.CONTEXT: 92546,
}
DEFAULT_TILES = 6
_CLASSES = {
    "llava-next": "LlavaNextForConditionalGeneration",
    "llava-1.5": "LlavaForConditionalGeneration",
    "llava-onevision": "LlavaOnevisionForConditionalGeneration",
    "internvl2": "InternVLForConditionalGeneration",
    "qwen2.5-vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3-vl": "Qwen3VLForConditionalGeneration",
}


def _class_of(family: str) -> Any:
    """Only now is its module imported: a process needs one family of them."""
    return getattr(transformers, _CLASSES[family])


def llava_parts(job: LoadJob) -> Parts:
    """The LLaVAs, in the hub's layout or the original one, or their published sizes."""
    if job.options:
        raise ParameterError(f"{job.chosen.family} has no option {sorted(job.options)}")
    is_original = False
    settings: dict[str, Any] = {}
    if job.folder is None:
        config = configs.named_llava(shape(job.chosen.name))
    else:
        is_original = is_original_llava(read_config(job.folder))
        config = configs.original_llava(job.folder) if is_original else configs.hub_llava(job.folder, job.chosen.family)
        settings = read_settings(job.folder)
        if not is_original:
            check_views(settings, config, job.folder)
        settings |= {"original_layout": is_original}
    model = job.build(_class_of(job.chosen.family), config)
    if job.folder is not None and job.has_weights and not job.is_quantised:
        _fill_llava(model, job, is_original)
    image_id = config.image_token_index
    tokenizer: Tokenizer
    if job.folder is None:
        tokenizer = StandInTokenizer(config.text_config.vocab_size, {IMAGE: image_id})
    else:
        tokenizer = read_tokenizer(job.folder, {IMAGE: image_id} if is_original else None)
    text = config.text_config
    info = job.info(model, configs.language_shape(config), configs.llava_vision_shape(config), text)
    return Parts(info, model, tokenizer, job.style, end_tokens(job.folder, text, tokenizer, job.style), IMAGE, settings)


def _fill_llava(model: Any, job: LoadJob, is_original: bool) -> None:
    assert job.folder is not None
    if not is_original:
        fill(model, [job.folder], llava.hub, job.target.device, job.but)
        return
    # The original layout names its vision tower by hub id and does not always hold it.
    inside = any("vision_tower" in key for key in keys(job.folder))
    tower = read_config(job.folder)["mm_vision_tower"]
    folders = [job.folder] if inside else [job.folder, find_folder(tower, is_clip)]
    fill(model, folders, llava.original_with_tower, job.target.device, job.but)


def internvl2_parts(job: LoadJob) -> Parts:
    """InternVL in OpenGVLab's layout or transformers' own, or its published sizes.

    Raises:
        CheckpointError: the folder is of another family, or its tokenizer lacks the tokens around a picture.
    """
    unknown = sorted(set(job.options) - {"max_tiles"})
    if unknown:
        raise ParameterError(f"internvl2 has no option {unknown}; it has ['max_tiles']")
    raw: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    tokenizer: Tokenizer
    if job.folder is None:
        config, translate = configs.named_internvl2(shape(job.chosen.name)), internvl2.reader(None)
        tokenizer = StandInTokenizer(config.text_config.vocab_size, _STAND_IN)
    else:
        raw = read_config(job.folder)
        config, translate = configs.internvl(job.folder, raw)
        tokenizer = read_tokenizer(job.folder)
        if raw["model_type"] == "internvl":
            settings = read_settings(job.folder)
            settings |= internvl_pixels(settings, job.folder)
    wanted = (internvl2.CONTEXT, job.style.end) if job.style.end else (internvl2.CONTEXT,)
    found = {token: tokenizer.special(token) for token in wanted}
    missing = sorted(token for token, number in found.items() if number is None)
    if missing:
        raise CheckpointError(f"{job.folder}: its tokenizer does not know {', '.join(missing)}")
    config.image_token_id = found[internvl2.CONTEXT]
    model = job.build(_class_of(job.chosen.family), config)
    if job.folder is not None and job.has_weights and not job.is_quantised:
        fill(model, [job.folder], translate, job.target.device, job.but)
    published = raw.get("max_dynamic_patch") or settings.get("max_patches") or DEFAULT_TILES
    most = int(job.options.get("max_tiles", min(DEFAULT_TILES, published)))
    if most < 1:
        raise ParameterError(f"max_tiles {most} is not positive")
    text = config.text_config
    info = job.info(model, configs.language_shape(config), configs.intern_vit_shape(config), text)
    # The configuration names </s> alone, but a turn ends with the style's own token.
    end = end_tokens(job.folder, text, tokenizer, job.style)
    return Parts(info, model, tokenizer, job.style, end, internvl2.CONTEXT, settings | {"max_tiles": most})


def qwen_parts(job: LoadJob) -> Parts:
    """Qwen-VL in the hub's layout, or its published sizes.

    Raises:
        CheckpointError: the tokenizer lacks the picture's token.
        ParameterError: an option that is no number of pixels.
    """
    unknown = sorted(set(job.options) - {"min_pixels", "max_pixels"})
    if unknown:
        raise ParameterError(f"{job.chosen.family} has no option {unknown}; it has ['max_pixels', 'min_pixels']")
    config = configs.qwen_vl(job.folder, job.chosen.family, job.chosen.name)
    tokenizer: Tokenizer
    if job.folder is None:
        settings = qwen_shapes.published(job.chosen.name)[1]
        tokenizer = StandInTokenizer(config.text_config.vocab_size, qwen_shapes.SPECIAL_TOKENS)
    else:
        settings, tokenizer = read_settings(job.folder), read_tokenizer(job.folder)
    least, most = qwen_shapes.pixel_limits(settings, job.options, job.folder)
    if tokenizer.special(IMAGE_PAD) != config.image_token_id:
        raise CheckpointError(
            f"{job.folder}: its tokenizer knows {IMAGE_PAD} as {tokenizer.special(IMAGE_PAD)}; its config.json says "
            f"{config.image_token_id}"
        )
    model = job.build(_class_of(job.chosen.family), config)
    if job.folder is not None and job.has_weights and not job.is_quantised:
        fill(model, [job.folder], qwen.hub, job.target.device)
    text = config.text_config
    vision = qwen_shapes.vision_shape(config.vision_config.to_dict(), job.chosen.family, most)
    info = job.info(model, configs.language_shape(config), vision, text)
    end = end_tokens(job.folder, text, tokenizer, job.style)
    settings |= {"min_pixels": least, "max_pixels": most}
    return Parts(info, model, tokenizer, job.style, end, IMAGE_PAD, settings)
