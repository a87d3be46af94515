"""One model being loaded: where it is to stand, what it is made from."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hero_ray.core.errors import CheckpointError, ParameterError
from hero_ray.core.text import brief
from hero_ray.models.base import LanguageShape, ModelInfo, VisionShape, torch_dtype
from hero_ray.models.build import META, build, randomise
from hero_ray.models.checkpoints.plausible import read_config
from hero_ray.models.checkpoints.revision import revision
from hero_ray.models.prompts import PromptStyle
from hero_ray.models.registry import ModelSpec
from hero_ray.models.supported import quantised


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
        place = _device(name)
        if dtype is None:
            half = "bfloat16" if name.startswith("cuda") and torch.cuda.is_bf16_supported() else "float16"
            dtype = half if name.startswith("cuda") else "float32"
        if dtype not in ("float32", "bfloat16", "float16"):
            raise ParameterError(f"dtype {dtype!r} is unknown; use float32, bfloat16 or float16")
        attention = attention or "sdpa"
        if attention not in ("sdpa", "flash_attention_2", "eager"):
            raise ParameterError(f"attention {attention!r} is unknown; use sdpa, flash_attention_2 or eager")
        if attention == "flash_attention_2" and (dtype == "float32" or not name.startswith("cuda")):
            raise ParameterError(
                f"flash_attention_2 runs on CUDA in half precision, not on {name} in {dtype}; use sdpa"
            )
        if attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
            raise ParameterError("flash_attention_2 needs the package flash-attn, which is not installed; use sdpa")
        return cls(place, torch_dtype(dtype), attention)


def _device(name: str) -> torch.device:
    try:
        place = torch.device(name)
    except RuntimeError:
        raise ParameterError(f"device {brief(name)} is unknown; use cuda, cuda:1, cpu or meta") from None
    if place.type == "mps":
        raise ParameterError(
            "device 'mps' is not supported: methods add up scores in float64, which Apple's MPS lacks; use device='cpu'"
        )
    if place.type not in ("cuda", "cpu", "meta"):
        raise ParameterError(f"device {name!r} is not supported; use cuda, cuda:1, cpu or meta")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ParameterError(f"device {name!r} was asked for, but torch sees no CUDA device; use device='cpu'")
    if place.type == "cuda" and (place.index or 0) >= (count := torch.cuda.device_count()):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise ParameterError(
            f"device {name!r} was asked for, but torch sees {count} CUDA device(s), counted from 0"
            + (f" of CUDA_VISIBLE_DEVICES={visible}" if visible is not None else "")
        )
    return place


@dataclass(frozen=True)
class LoadJob:
    """One model being loaded. `seed` is set for random weights only; `folder` is None for sizes known by name; `but`
    names a part that stays shapes."""

    name: str
    chosen: ModelSpec
    folder: Path | None
    target: Target
    seed: int | None
    options: Mapping[str, Any]
    style: PromptStyle
    but: str = ""

    @property
    def has_weights(self) -> bool:
        return self.seed is None and self.target.device != META

    @property
    def is_quantised(self) -> bool:
        """Whether transformers' own quantisers bring the weights, not `fill`."""
        return self.folder is not None and self.has_weights and bool(quantised(read_config(self.folder)))

    def _read_quantised(self, model_class: Any, config: Any) -> Any:
        assert self.folder is not None
        model, told = model_class.from_pretrained(
            self.folder,
            config=config,
            dtype=self.target.dtype,
            attn_implementation=self.target.attention,
            device_map={"": str(self.target.device)},
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        wrong = {key: sorted(told[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if told[key]}
        if wrong:
            raise CheckpointError(f"{self.folder}: config.json and weights do not belong together: {str(wrong)[:300]}")
        return in_one_dtype(model, self.target.dtype).eval().requires_grad_(False)

    def build(self, model_class: Any, config: Any) -> Any:
        """The model: its shapes alone where `fill` is to bring the weights, else on its device, random or undefined."""
        if self.is_quantised:
            return self._read_quantised(model_class, config)
        device = META if self.has_weights else self.target.device
        model = build(model_class, config, device, self.target.dtype, self.target.attention)
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


def in_one_dtype(model: Any, dtype: torch.dtype) -> Any:
    """A quantised model whose other weights, which stay as they were saved, are brought to one dtype too."""
    for weight in model.parameters():
        if weight.is_floating_point():
            weight.data = weight.data.to(dtype)
    return model
