"""`load`: a name, hub id or folder becomes an adapter on its device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from hero_ray.core.engines import COPIED, IN_PLACE, OURS, prefix_of
from hero_ray.core.errors import CheckpointError, HeroRayError, ParameterError
from hero_ray.models.asking import style_for
from hero_ray.models.build import META
from hero_ray.models.checkpoints.plausible import read_config
from hero_ray.models.clip_loader import load_clip
from hero_ray.models.clip_text import TextPolicy
from hero_ray.models.engines.job import EngineJob
from hero_ray.models.family import FamilyAdapter, Parts
from hero_ray.models.internvl2 import InternVL2Adapter
from hero_ray.models.job import LoadJob, Target
from hero_ray.models.llava_15 import Llava15Adapter
from hero_ray.models.llava_next import LlavaNextAdapter
from hero_ray.models.llava_onevision import LlavaOneVisionAdapter
from hero_ray.models.parts import internvl2_parts, llava_parts, qwen_parts
from hero_ray.models.qwen3_vl import Qwen3VLAdapter
from hero_ray.models.qwen_vl import QwenVLAdapter
from hero_ray.models.registry import SPECS, ModelSpec, foreign
from hero_ray.models.shapes import shape
from hero_ray.models.sources import find_clip, find_folder
from hero_ray.models.supported import family_of

RANDOM = ":random"
ClipVision = Literal["tower", "openai", "none"]

_ADAPTERS: dict[str, Callable[[Parts], FamilyAdapter]] = {
    "llava-next": LlavaNextAdapter,
    "llava-1.5": Llava15Adapter,
    "llava-onevision": LlavaOneVisionAdapter,
    "internvl2": InternVL2Adapter,
    "qwen2.5-vl": QwenVLAdapter,
    "qwen3-vl": Qwen3VLAdapter,
}
_PARTS: dict[str, Callable[[LoadJob], Parts]] = {
    "llava-next": llava_parts,
    "llava-1.5": llava_parts,
    "llava-onevision": llava_parts,
    "internvl2": internvl2_parts,
    "qwen2.5-vl": qwen_parts,
    "qwen3-vl": qwen_parts,
}


def load(
    name: str,
    device: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    clip_vision: ClipVision = "tower",
    clip_text: TextPolicy = "truncate",
    clip: str | None = None,
    seed: int = 0,
    graphs: bool = False,
    prefix: str = COPIED,
    style: str | None = None,
    engine: str = OURS,
    engine_args: Any = None,
    **options: Any,
) -> FamilyAdapter:
    """An adapter, ready to encode and generate.

    Args:
        name: a registered name, a hub id or a local folder; `:random` behind a registered name gives its
            architecture with seeded random weights, for speed and memory only.
        device: default: CUDA where there is one. `meta` gives shapes without weights.
        dtype: `float32`, `bfloat16` or `float16`; default bf16 on CUDA, fp32 on CPU, as published on meta.
        attention: `sdpa` (default), `flash_attention_2` or `eager`.
        clip_vision: whose vision tower answers for CLIP scores: the model's own (`tower`) or CLIP's (`openai`, a
            second pass).
        clip_text: what happens to questions beyond CLIP's 77 positions.
        clip: folder or hub id of the CLIP to take the text tower from; default: what the name's registry line says.
        seed: of random weights.
        graphs: replay decode steps as CUDA graphs (SDPA only); greedy answers stay the same.
        prefix: what becomes of the system prompt and picture that questions of a batch share: keys and values `copied`
            for each of them, or read `in-place` (SDPA only), which takes less memory and changes logits by rounding.
        style: name of the conversation to ask in, instead of what the checkpoint says of itself.
        engine: who answers: our own blocks (`ours`), `vllm`, or `auto`: vLLM for all it can carry, ours for the rest.
        engine_args: how vLLM runs (`hero_ray.core.engine_args.EngineArgs`).
        options: settings of one family, for example `max_tiles` of internvl2, `max_pixels` of qwen2.5-vl.

    Raises:
        UnknownNameError: no such model.
        CheckpointError: the folder is not what it claims to be.
        ParameterError: an option nobody knows, options that do not go together, or a device that is not there.
        MissingExtraError: vLLM, where it is not installed.
    """
    if clip_vision not in get_args(ClipVision):
        raise ParameterError(f"clip_vision={clip_vision!r} is unknown; use one of {', '.join(get_args(ClipVision))}")
    in_place = prefix_of({"engine": engine, "prefix": prefix}) == IN_PLACE
    plain = name.removesuffix(RANDOM)
    is_random = name.endswith(RANDOM)
    if is_random and plain not in SPECS:
        raise ParameterError(f"{RANDOM} goes behind a registered name ({', '.join(SPECS)}), not behind {plain!r}")
    published = plain in SPECS and SPECS[plain].embedded is None
    if device == META.type and dtype is None and published:
        dtype = shape(plain).dtype  # what its weights are published in: the cache bytes of the real thing
    target = Target.of(device, dtype, attention)
    # A published model without weights needs no download: its sizes are known by name.
    folder = None if published and (is_random or target.device == META) else find_folder(plain)
    raw = {} if folder is None else read_config(folder)
    chosen = _spec(plain, folder, raw)
    asked = style_for(chosen, folder, raw, style)
    source = find_clip(chosen, folder, clip, clip_vision)
    made_for = EngineJob.of(engine, engine_args, name, folder, raw, target, graphs)
    job = LoadJob(name, chosen, folder, target, seed if is_random else None, options, asked, made_for.unread)
    if graphs and (target.device.type != "cuda" or target.attention != "sdpa"):
        raise ParameterError(f"graphs need a CUDA device and sdpa; this is {target.device} with {target.attention}")
    with described(folder):
        adapter = _ADAPTERS[chosen.family](replace(_PARTS[chosen.family](job), graphs=graphs, in_place=in_place))
    if source is not None:
        adapter.attach_clip(partial(load_clip, source, target, clip_vision, clip_text, job.seed))
    made_for.start(adapter)
    return adapter


def _spec(name: str, folder: Path | None, raw: Mapping[str, Any]) -> ModelSpec:
    """The registry's line on a model, or one made up for a folder of a known family."""
    family = None if folder is None else family_of(raw, folder)
    chosen = SPECS.get(name) or foreign(name, str(family))
    if family not in (None, chosen.family):
        raise CheckpointError(f"{folder} is of family {family}, {name} should be {chosen.family}")
    return chosen


@contextmanager
def described(folder: Path | None) -> Iterator[None]:
    """Turn what a library says of a folder's contents into one line.

    Raises:
        CheckpointError: the folder does not describe a model that can be built.
    """
    try:
        yield
    except (HeroRayError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # configuration classes raise errors of many kinds, their own among them
        if folder is None:
            raise
        why = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{folder} describes no model that can be built: {type(error).__name__}: {why}"
        ) from error
