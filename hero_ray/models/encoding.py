"""The vision half of an adapter: one pass of the tower under taps, dealt out to the pictures it came from.

Shape letters: V views, N tokens per view, C width of the projector's input, P width of CLIP's shared space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hero_ray.core.encoded import Encoded, ImagePlan, Needs, VisionInfo
from hero_ray.core.errors import DeviceMemoryError
from hero_ray.models.base import Prepared
from hero_ray.models.clip_text import ClipSide
from hero_ray.models.taps import ClsTaps, TapPoint, pool_patches, rows_of


class TowerEncoder:
    """Base of the adapters' vision half; a family says how it cuts pictures and runs its tower.

    Attributes:
        vision: what a method may know of the tower.
        model: the stock transformers model.
    """

    vision: VisionInfo
    model: Any
    _core: Any
    _device: torch.device
    _deep_layers: tuple[int, ...] = ()
    _load_clip: Callable[[], ClipSide] | None = None

    def attach_clip(self, load: Callable[[], ClipSide]) -> None:
        """Where CLIP's text side comes from; it is read when a method first asks for it."""
        self._load_clip = load

    @cached_property
    def clip(self) -> ClipSide | None:
        """CLIP text tower and projections, or None where the model has no paired text tower."""
        return self._load_clip() if self._load_clip is not None else None

    def prepare(self, image: Image.Image, image_id: str = "", plan: ImagePlan | None = None) -> Prepared:
        """Cut a picture into views; CPU only."""
        raise NotImplementedError

    def plans(self, size: tuple[int, int]) -> tuple[ImagePlan, ...]:
        """Cheaper looks at a picture of (width, height), most tokens first."""
        raise NotImplementedError

    def _tap_points(self, pixels: Tensor) -> dict[int, TapPoint]:
        """Where the queries and keys of every block appear while the tower looks at `pixels`."""
        raise NotImplementedError

    def _run_tower(self, pixels: Tensor, taken: frozenset[int]) -> dict[int, Tensor]:
        """Outputs [V, 1 + patches, C] of the 1-based tower blocks in `taken`."""
        raise NotImplementedError

    def _projector_input(self, features: Tensor) -> Tensor:
        """Tokens [V, N, C] as the projector takes them, from the feature block's output."""
        raise NotImplementedError

    def _post_norm(self, states: Tensor) -> Tensor:
        """The tower's last norm."""
        raise NotImplementedError

    def _projected(self, tokens: Tensor) -> Tensor:
        """Tokens [..., C] in the width of the LLM."""
        return self._core.multi_modal_projector(tokens)  # type: ignore[no-any-return]

    def _features(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        """Projected tokens [V, N, D] of a pass over `pixels`, as the model itself makes them."""
        return self._projected(tokens)

    def _deep(self, outputs: Mapping[int, Tensor]) -> Tensor | None:
        """What blocks `_deep_layers` of the tower say to the language model by themselves: [V, N, L, D]."""
        return None

    def _per_token(self, patches: Tensor, dim: int = -1) -> Tensor:
        """Mean over the patches behind each visual token, along the axis `dim` of patches."""
        return pool_patches(patches, round(self.vision.patches_per_token**0.5), dim)

    def encode(self, prepared: Prepared, needs: Needs) -> Encoded:
        """One pass of the vision tower and projector, capturing what `needs` names.

        Raises:
            ParameterError: a layer the tower does not have.
        """
        return self.encode_many([prepared], needs)[0]

    @torch.no_grad()
    def encode_many(self, prepared: Sequence[Prepared], needs: Needs) -> list[Encoded]:
        """Several pictures in one pass per view size. In half precision a picture's values then depend, within
        rounding, on what it is batched with; `encode` alone never does."""
        results: dict[int, Encoded] = {}
        by_size: dict[torch.Size, list[int]] = {}
        for index, picture in enumerate(prepared):
            by_size.setdefault(picture.pixels.shape[1:], []).append(index)
        for members in by_size.values():
            results |= zip(members, self._encode_group([prepared[index] for index in members], needs), strict=True)
        return [results[index] for index in range(len(prepared))]

    def _encode_group(self, prepared: list[Prepared], needs: Needs) -> list[Encoded]:
        """Pictures of one view size; halved and halved again when the device's memory is too small for all of them."""
        try:
            captured = self._capture(torch.cat([picture.pixels for picture in prepared]), needs)
        except torch.OutOfMemoryError as error:
            if len(prepared) == 1:
                views = prepared[0].layout.num_views
                raise DeviceMemoryError(f"a picture of {views} views does not fit the device's memory") from error
        else:
            ends = torch.tensor([picture.layout.num_views for picture in prepared]).cumsum(0).tolist()
            starts = [0, *ends]
            return [
                self._encoded(picture, captured, slice(start, end))
                for picture, start, end in zip(prepared, starts, ends, strict=False)
            ]
        torch.cuda.empty_cache()  # outside the handler, whose traceback keeps the failed pass alive
        half = len(prepared) // 2
        return self._encode_group(prepared[:half], needs) + self._encode_group(prepared[half:], needs)

    def _capture(self, pixels: Tensor, needs: Needs) -> Encoded:
        """All views of a batch, before they are dealt out to their pictures."""
        depth, feature = self.vision.num_layers, self.vision.feature_layer
        sources = set(needs.cls_embedding)
        reads_clip = bool(needs.clip or "projected" in sources)
        clip = self.clip if reads_clip else None  # reading it loads it
        clip_image = clip is not None and bool(needs.clip_score or "projected" in sources)
        own_clip = clip_image and clip is not None and clip.vision_model is None
        taken = {feature} | ({depth} if own_clip or sources & {"last_pre_ln", "post_ln"} else set())
        taken |= set(self._deep_layers)
        deepest = max([*taken, *needs.tower_layers])
        pixels = pixels.to(self._device, self.model.dtype)
        with ClsTaps(self._tap_points(pixels), needs, self.vision.has_cls) as taps:
            outputs = self._run_tower(pixels, frozenset(taken | {min(deepest, depth)}))
        tokens = self._projector_input(outputs[feature])
        embeddings = {}
        for source in sources - {"projected"}:
            states = outputs[feature if source == "feature_layer" else depth]
            states = states[:, 0] if self.vision.has_cls else states.mean(1)
            embeddings[source] = (self._post_norm(states) if source == "post_ln" else states).float()
        if clip_image:
            embeddings["projected"] = self._clip_views(pixels, outputs)
        if needs.clip_tokens and clip is not None and clip.vision_model is None:
            # CDPruner: patch states of the feature block through post-norm and projection, [V, N, P].
            embeddings["projected_patches"] = clip.project(outputs[feature][:, 1:], self._post_norm)
        if needs.clip_words and clip is not None and clip.vision_model is None:
            embeddings["plain_patches"] = clip.project(outputs[feature][:, 1:])
        return Encoded(
            image_id="",
            layout=None,  # type: ignore[arg-type]  # set per picture
            vision=self.vision,
            features=self._features(tokens, pixels),
            projector_input=tokens if needs.projector_input else None,
            cls_attention={layer: self._per_token(row) for layer, row in taps.attention.items()},
            cls_logits={layer: self._per_token(row) for layer, row in taps.logits.items()},
            cls_query=dict(taps.query),
            keys={layer: self._pooled_keys(keys) for layer, keys in taps.keys.items()},
            received={layer: self._per_token(shares) for layer, shares in taps.received.items()},
            cls_embedding=embeddings,
            deep=self._deep(outputs),
        )

    def _clip_views(self, pixels: Tensor, outputs: dict[int, Tensor]) -> Tensor:
        """CLIP's image embedding of every view [V, P], fp32, from the tower itself or from CLIP's own."""
        assert self.clip is not None
        if self.clip.vision_model is None:
            return self.clip.project(outputs[self.vision.num_layers][:, 0], self._post_norm)
        tower = self.clip.vision_model
        side = tower.config.image_size
        resized = self._clip_pixels(pixels, side)
        return self.clip.project(tower(resized.to(tower.dtype)).last_hidden_state[:, 0], tower.post_layernorm)

    def _clip_pixels(self, pixels: Tensor, side: int) -> Tensor:
        """The same views as CLIP's own tower wants them; here only resized where the plan shrank them."""
        if pixels.shape[-1] == side:
            return pixels
        return torch.nn.functional.interpolate(pixels.float(), size=(side, side), mode="bicubic", antialias=True)

    def _encoded(self, prepared: Prepared, captured: Encoded, views: slice) -> Encoded:
        tokens = captured.projector_input
        return replace(
            captured,
            image_id=prepared.image_id,
            layout=prepared.layout,
            features=captured.features[views],
            deep=None if captured.deep is None else captured.deep[views],
            projector_input=None if tokens is None else tokens[views],
            cls_attention=rows_of(captured.cls_attention, views),
            cls_logits=rows_of(captured.cls_logits, views),
            cls_query=rows_of(captured.cls_query, views),
            keys=rows_of(captured.keys, views),
            received=rows_of(captured.received, views),
            cls_embedding={source: tensor[views] for source, tensor in captured.cls_embedding.items()},
        )

    def _pooled_keys(self, keys: Tensor) -> Tensor:
        """Keys [V, H, 1 + patches, head_dim] with the patches behind each token averaged."""
        if self.vision.patches_per_token == 1:
            return keys
        return torch.cat([keys[:, :, :1], self._per_token(keys[:, :, 1:], dim=2)], 2)
