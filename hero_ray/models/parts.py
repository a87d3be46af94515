"""From a folder (or known sizes) to the parts of an adapter, family by family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    InternVLForConditionalGeneration,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
)

from hero_ray.core.errors import CheckpointError, ParameterError
from hero_ray.models import configs
from hero_ray.models.checkpoints import internvl2, llava
from hero_ray.models.checkpoints.plausible import read_object
from hero_ray.models.checkpoints.reader import fill, keys, read_config
from hero_ray.models.family import Parts
from hero_ray.models.job import LoadJob
from hero_ray.models.prompts import IMAGE, style
from hero_ray.models.shapes import shape
from hero_ray.models.sources import find_folder
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


def llava_parts(job: LoadJob) -> Parts:
    if job.options:
        raise ParameterError(f"{job.chosen.family} has no option {sorted(job.options)}")
    next_generation = job.chosen.family == "llava-next"
    is_original = False
    settings: dict[str, Any] = {}
    if job.folder is None:
        config = configs.named_llava(shape(job.chosen.name))
    else:
        raw = read_config(job.folder)
        family = configs.family_of(raw, str(job.folder))
        if family != job.chosen.family:
            raise CheckpointError(f"{job.folder} is of family {family}, {job.name} should be {job.chosen.family}")
        is_original = configs.is_original_llava(raw)
        config = configs.original_llava(job.folder) if is_original else configs.hub_llava(job.folder, job.chosen.family)
        settings = read_settings(job.folder)
    model = job.build(LlavaNextForConditionalGeneration if next_generation else LlavaForConditionalGeneration, config)
    if job.folder is not None and job.has_weights:
        _fill_llava(model, job, is_original)
    image_id = config.image_token_index
    tokenizer: Tokenizer
    if job.folder is None:
        tokenizer = StandInTokenizer(config.text_config.vocab_size, {IMAGE: image_id})
    else:
        tokenizer = read_tokenizer(job.folder, {IMAGE: image_id} if is_original else None)
    info = job.info(
        model, configs.language_shape(config.text_config), configs.clip_vision_shape(config), config.text_config
    )
    end = frozenset(_ids(config.text_config.eos_token_id))
    return Parts(info, model, tokenizer, style(job.style), end, IMAGE, settings)


def _fill_llava(model: Any, job: LoadJob, is_original: bool) -> None:
    assert job.folder is not None
    if not is_original:
        fill(model, [job.folder], llava.hub, job.target.device)
        return
    # The original layout names its vision tower by hub id and does not always hold it.
    inside = any("vision_tower" in key for key in keys(job.folder))
    tower = read_config(job.folder)["mm_vision_tower"]
    folders = [job.folder] if inside else [job.folder, find_folder(tower)]
    fill(model, folders, llava.original_with_tower, job.target.device)


def read_settings(folder: Path) -> dict[str, Any]:
    """Image-processor settings: `preprocessor_config.json`, or the joint `processor_config.json` of newer folders."""
    plain, joint = folder / "preprocessor_config.json", folder / "processor_config.json"
    if plain.is_file():
        return read_object(plain)
    if joint.is_file():
        return dict(read_object(joint).get("image_processor") or {})
    return {}


def _ids(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def internvl2_parts(job: LoadJob) -> Parts:
    """InternVL2 in OpenGVLab's layout, or its published sizes.

    Raises:
        CheckpointError: the folder is of another family, or its tokenizer lacks the tokens around a picture.
    """
    unknown = sorted(set(job.options) - {"max_tiles"})
    if unknown:
        raise ParameterError(f"internvl2 has no option {unknown}; it has ['max_tiles']")
    raw: dict[str, Any] = {}
    tokenizer: Tokenizer
    if job.folder is None:
        config = configs.named_internvl2(shape(job.chosen.name))
        tokenizer = StandInTokenizer(config.text_config.vocab_size, _STAND_IN)
    else:
        raw = read_config(job.folder)
        config = internvl2.read_native_config(job.folder)
        tokenizer = read_tokenizer(job.folder)
    found = {token: tokenizer.special(token) for token in (internvl2.CONTEXT, internvl2.TURN_END)}
    missing = sorted(token for token, number in found.items() if number is None)
    if missing:
        raise CheckpointError(f"{job.folder}: its tokenizer does not know {', '.join(missing)}")
    config.image_token_id = found[internvl2.CONTEXT]
    model = job.build(InternVLForConditionalGeneration, config)
    if job.folder is not None and job.has_weights:
        fill(model, [job.folder], internvl2.reader(config.text_config), job.target.device)
    most = int(job.options.get("max_tiles", min(DEFAULT_TILES, raw.get("max_dynamic_patch", DEFAULT_TILES))))
    if most < 1:
        raise ParameterError(f"max_tiles {most} is not positive")
    info = job.info(
        model, configs.language_shape(config.text_config), configs.intern_vit_shape(config), config.text_config
    )
    # The configuration names </s> alone, but a turn ends with <|im_end|>.
    end = frozenset([int(found[internvl2.TURN_END] or 0), *_ids(config.text_config.eos_token_id)])
    settings = {"max_tiles": most}
    system = raw.get("system_message")
    return Parts(info, model, tokenizer, style(job.style), end, internvl2.CONTEXT, settings, system)
