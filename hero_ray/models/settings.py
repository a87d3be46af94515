"""A folder's image-processor settings: read, and held against what its tower sees and what we do with pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hero_ray.core.errors import CheckpointError
from hero_ray.models.checkpoints.plausible import read_object


def read_settings(folder: Path) -> dict[str, Any]:
    """Image-processor settings: `preprocessor_config.json`, or the joint `processor_config.json` of newer folders."""
    plain, joint = folder / "preprocessor_config.json", folder / "processor_config.json"
    if plain.is_file():
        return read_object(plain)
    if joint.is_file():
        return dict(read_object(joint).get("image_processor") or {})
    return {}


def check_views(settings: Mapping[str, Any], config: Any, where: object) -> None:
    """Refuse a LLaVA whose processor cuts other views than its model was configured for; transformers fails there, or
    asks about other pixels than the tower was built for.

    Raises:
        CheckpointError: naming the entry.
    """
    edge = config.vision_config.image_size
    for key in ("size", "crop_size"):
        found = settings.get(key)
        named = found.values() if isinstance(found, Mapping) else [found]
        if wrong := [value for value in named if value is not None and value != edge]:
            raise CheckpointError(
                f"{where}: its image processor makes views of {wrong[0]} pixels ({key}); its vision tower sees {edge}"
            )
    canvases = settings.get("image_grid_pinpoints")
    known = getattr(config, "image_grid_pinpoints", None)
    if canvases and known and {tuple(one) for one in canvases} != {tuple(one) for one in known}:
        raise CheckpointError(
            f"{where}: image_grid_pinpoints of its image processor ({len(canvases)}) are not those of its config.json "
            f"({len(known)}); the model would be given other tiles than it counts"
        )


def internvl_pixels(settings: Mapping[str, Any], where: object) -> dict[str, Any]:
    """`image_mean`, `image_std` and `resample` of transformers' own InternVL layout, what is left out as its processor
    completes it; empty without settings (ImageNet's, bicubic).

    Raises:
        CheckpointError: a setting that we do not follow.
    """
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    if not settings:
        return {}
    said = {key: value for key, value in settings.items() if not key.endswith("_type") and key != "processor_class"}
    made: Any = GotOcr2ImageProcessorPil(**said)
    expected = {"do_resize": True, "do_rescale": True, "do_normalize": True, "min_patches": 1}
    for key, value in expected.items():
        if getattr(made, key, value) != value:
            raise CheckpointError(f"{where}: {key} of its image processor is {getattr(made, key)!r}; expected {value}")
    if not math.isclose(made.rescale_factor, 1 / 255, rel_tol=1e-6):
        raise CheckpointError(
            f"{where}: rescale_factor of its image processor is {made.rescale_factor}; expected 1/255"
        )
    return {"image_mean": list(made.image_mean), "image_std": list(made.image_std), "resample": int(made.resample)}
