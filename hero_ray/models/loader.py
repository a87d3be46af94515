"""`load`: a name, hub id or folder becomes an adapter on its device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import LlavaForConditionalGeneration, LlavaNextForConditionalGeneration

from hero_ray.errors import CheckpointError, ParameterError
from hero_ray.models import configs
from hero_ray.models.base import LanguageShape, ModelInfo, VisionShape, torch_dtype
from hero_ray.models.build import META, build, randomise
from hero_ray.models.checkpoints import llava
from hero_ray.models.checkpoints.reader import fill, keys, read_config, revision
from hero_ray.models.clip_loader import load_clip
from hero_ray.models.clip_text import TextPolicy
from hero_ray.models.family import FamilyAdapter, Parts
from hero_ray.models.llava_15 import Llava15Adapter
from hero_ray.models.llava_next import LlavaNextAdapter
from hero_ray.models.prompts import IMAGE, style
from hero_ray.models.registry import SPECS, ModelSpec, foreign
from hero_ray.models.shapes import shape
from hero_ray.models.sources import find_folder
from hero_ray.models.tokenizer import StandInTokenizer, Tokenizer, read_tokenizer

RANDOM = ":random"
ClipVision = Literal["tower", "openai", "none"]


@dataclass(frozen=True)
class Target:
    """Where and how a model is to stand."""

    device: torch.device
    dtype: torch.dtype
    attention: str

    @classmethod
    def of(cls, device: str | None, dtype: str | None, attention: str | None) -> Target:
        """Sensible defaults: the GPU in bf16 where there is one, else the CPU in fp32; SDPA.

        Raises:
            ParameterError: an unknown dtype or attention kernel, or a device that is not there.
        """
        name = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise ParameterError(f"device {name!r} was asked for, but torch sees no CUDA device; use device='cpu'")
        if dtype is None:
            half = "bfloat16" if name.startswith("cuda") and torch.cuda.is_bf16_supported() else "float16"
            dtype = half if name.startswith("cuda") else "float32"
        if dtype not in ("float32", "bfloat16", "float16"):
            raise ParameterError(f"dtype {dtype!r} is unknown; use float32, bfloat16 or float16")
        attention = attention or "sdpa"
        if attention not in ("sdpa", "flash_attention_2", "eager"):
            raise ParameterError(f"attention {attention!r} is unknown; use sdpa, flash_attention_2 or eager")
        return cls(torch.device(name), torch_dtype(dtype), attention)


@dataclass(frozen=True)
class LoadJob:
    """One model being loaded. `seed` is set for random weights only; `folder` is None for sizes known by name."""

    name: str
    chosen: ModelSpec
    folder: Path | None
    target: Target
    seed: int | None
    options: Mapping[str, Any]

    @property
    def has_weights(self) -> bool:
        return self.seed is None and self.target.device != META

    @property
    def style(self) -> str:
        """The registry's style; a folder with its own `clip/` is an export of the embedded model."""
        own = self.folder is not None and (self.folder / "clip").is_dir() and self.chosen.family == "llava-next"
        return "plain" if own else self.chosen.style

    def build(self, model_class: Any, config: Any) -> Any:
        """The model on its device, weights undefined or random."""
        model = build(model_class, config, self.target.device, self.target.dtype, self.target.attention)
        if self.seed is not None:
            randomise(model, self.seed)
        return model

    def info(self, model: Any, language: LanguageShape, vision: VisionShape, text: Any) -> ModelInfo:
        """What is known of the model without running it."""
        if self.seed is not None:
            hashed = f"random:{self.seed}"
        else:
            hashed = revision(self.folder) if self.folder is not None and self.has_weights else "none"
        return ModelInfo(
            name=self.name,
            family=self.chosen.family,
            revision=hashed,
            random_weights=not self.has_weights,
            language=language,
            vision=vision,
            dtype=str(self.target.dtype).removeprefix("torch."),
            device=self.target.device.type,
            attention=self.target.attention,
            context=text.max_position_embeddings,
        )


def load(
    name: str,
    device: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    clip_vision: ClipVision = "tower",
    clip_text: TextPolicy = "truncate",
    clip: str | None = None,
    seed: int = 0,
    **options: Any,
) -> FamilyAdapter:
    """An adapter, ready to encode and generate.

    Args:
        name: a registered name, a hub id or a local folder; `:random` behind a registered name gives its
            architecture with seeded random weights, for speed and memory only.
        device: default: CUDA where there is one. `meta` gives shapes without weights.
        dtype: `float32`, `bfloat16` or `float16`; default bf16 on CUDA, fp32 elsewhere.
        attention: `sdpa` (default), `flash_attention_2` or `eager`.
        clip_vision: whose vision tower answers for CLIP scores: the model's own (`tower`) or CLIP's (`openai`, a
            second pass).
        clip_text: what happens to questions beyond CLIP's 77 positions.
        clip: folder or hub id of the CLIP to take the text tower from; default: what the name's registry line says.
        seed: of random weights.
        options: settings of one family, for example `max_tiles` of internvl2.

    Raises:
        UnknownNameError: no such model.
        CheckpointError: the folder is not what it claims to be.
        ParameterError: an option nobody knows or a device that is not there.
    """
    if clip_vision not in get_args(ClipVision):
        raise ParameterError(f"clip_vision={clip_vision!r} is unknown; use one of {', '.join(get_args(ClipVision))}")
    target = Target.of(device, dtype, attention)
    plain = name.removesuffix(RANDOM)
    is_random = name.endswith(RANDOM)
    if is_random and plain not in SPECS:
        raise ParameterError(f"{RANDOM} goes behind a registered name ({', '.join(SPECS)}), not behind {plain!r}")
    published = plain in SPECS and SPECS[plain].embedded is None
    # A published model without weights needs no download: its sizes are known by name.
    folder = None if published and (is_random or target.device == META) else find_folder(plain)
    chosen = SPECS.get(plain) or foreign(plain, configs.family_of(read_config(folder or Path(plain)), plain))
    job = LoadJob(name, chosen, folder, target, seed if is_random else None, options)
    adapter = _ADAPTERS[chosen.family](_PARTS[chosen.family](job))
    source = find_clip(chosen, folder, clip)
    if clip_vision != "none" and source is not None:
        adapter.attach_clip(partial(load_clip, source, target, clip_vision, clip_text, job.seed))
    return adapter


def find_clip(chosen: ModelSpec, folder: Path | None, asked: str | None) -> str | None:
    """Where the CLIP text tower of a model comes from: what was asked for, its own `clip/`, or its registry line."""
    if asked:
        return asked
    if folder is not None and (folder / "clip" / "config.json").is_file():
        return str(folder / "clip")
    return chosen.clip or None


def _llava_parts(job: LoadJob) -> Parts:
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
        fill(model, [job.folder], llava.hub)
        return
    # The original layout names its vision tower by hub id and does not always hold it.
    inside = any("vision_tower" in key for key in keys(job.folder))
    tower = read_config(job.folder)["mm_vision_tower"]
    folders = [job.folder] if inside else [job.folder, find_folder(tower)]
    fill(model, folders, llava.original_with_tower)


def read_settings(folder: Path) -> dict[str, Any]:
    """Image-processor settings: `preprocessor_config.json`, or the joint `processor_config.json` of newer folders."""
    plain, joint = folder / "preprocessor_config.json", folder / "processor_config.json"
    if plain.is_file():
        return dict(json.loads(plain.read_text(encoding="utf-8")))
    if joint.is_file():
        return dict(json.loads(joint.read_text(encoding="utf-8")).get("image_processor", {}))
    return {}


def _ids(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


_ADAPTERS: dict[str, Any] = {"llava-next": LlavaNextAdapter, "llava-1.5": Llava15Adapter}
_PARTS: dict[str, Callable[[LoadJob], Parts]] = {"llava-next": _llava_parts, "llava-1.5": _llava_parts}
