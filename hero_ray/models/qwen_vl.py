"""Qwen2.5-VL: pictures at their own resolution, a tower of windows without CLS, positions in time, row and column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hero_ray.core.encoded import Encoded, ImagePlan, Needs, Selection, VisionInfo
from hero_ray.core.errors import PromptError
from hero_ray.core.layout import NewlinePolicy
from hero_ray.models.base import PlacedTokens, Prepared, Prompt
from hero_ray.models.family import FamilyAdapter, Parts
from hero_ray.models.geometry import Size
from hero_ray.models.heads import Rope, rotate
from hero_ray.models.internvl2 import resized_for_clip
from hero_ray.models.native import TowerGrid, fitted, native_layout, native_plans, places, tower_grid
from hero_ray.models.prompts import VIDEO_PAD
from hero_ray.models.taps import TapPoint

FOLD = 2
"""Patches along the edge of a visual token."""


class QwenVLAdapter(FamilyAdapter):
    """`Qwen/Qwen2.5-VL-*-Instruct`, one picture a question.

    A picture is one view of its own size. Most blocks of its tower see windows; a method that reads attention there is
    given what the nearest block with full attention does. Every visual token stands in a row and a column of the
    picture: survivors keep their places, and the text behind stands where the whole picture would have ended.

    Options: `min_pixels`, `max_pixels`, what a picture is scaled up or down to; those of the checkpoint by default.
    """

    family = "qwen2.5-vl"

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        vision = parts.model.config.vision_config
        self.vision = VisionInfo(vision.depth, vision.depth, FOLD**2, "qwen")
        self._patch, self._frames = int(vision.patch_size), int(vision.temporal_patch_size)
        self._unit = self._patch * FOLD
        self._settings: dict[str, Any] = dict(parts.settings)
        self._pixels = int(parts.settings["min_pixels"]), int(parts.settings["max_pixels"])
        self._heads, self._windows = int(vision.num_heads), parts.info.vision.window

    def prompt(self, text: str, question: str | None = None, history: Sequence[tuple[str, str]] = ()) -> Prompt:
        """As the base's.

        Raises:
            PromptError: also a film in the text.
        """
        if any(VIDEO_PAD in said for turn in (*history, (text,)) for said in turn):
            raise PromptError(f"the user text says {VIDEO_PAD}; hero-ray asks about one picture, no films")
        return super().prompt(text, question, history)

    # -- pictures ---------------------------------------------------------------------------------------------------

    def side(self, size: Size) -> Size:
        """(rows, columns) of visual tokens of a picture of (height, width).

        Raises:
            ImageError: more than 200 times as long as wide.
        """
        height, width = fitted(size, self._unit, *self._pixels)
        return height // self._unit, width // self._unit

    def prepare(self, image: Image.Image, image_id: str = "", plan: ImagePlan | None = None) -> Prepared:
        """The picture at its own aspect, to the nearest multiple of a token's edge; equal to the stock PIL processor
        when `plan` is None.

        Raises:
            ImageError: a picture more than 200 times as long as wide.
        """
        side = self.side((image.height, image.width)) if plan is None or plan.shape is None else plan.shape
        edges = side[1] * self._unit, side[0] * self._unit
        resized = image.convert("RGB").resize(edges, Image.Resampling(self._processor.resample))
        flat = self._processor(resized, do_resize=False, return_tensors="pt")["pixel_values"]
        return Prepared(image_id, self._unfolded(flat, side), native_layout(side), image.size)

    def plans(self, size: tuple[int, int]) -> tuple[ImagePlan, ...]:
        """The stock look, then ever smaller ones of about its aspect, down to one token."""
        return native_plans(self.side((size[1], size[0])))

    @cached_property
    def _processor(self) -> Any:
        # The PIL class by name: with torchvision installed the default one changes pixels.
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        known = {"image_mean", "image_std", "rescale_factor", "resample", "do_rescale", "do_normalize"}
        said = {key: value for key, value in self._settings.items() if key in known}
        return Qwen2VLImageProcessorPil(**said, patch_size=self._patch, temporal_patch_size=self._frames)

    def _unfolded(self, flat: Tensor, side: Size) -> Tensor:
        """Pixels [1, 3, H, W] of the processor's rows of patches, one of its equal frames."""
        rows = flat.view(*side, FOLD, FOLD, 3, self._frames, self._patch, self._patch)[..., 0, :, :]
        return rows.permute(4, 0, 2, 5, 1, 3, 6).reshape(1, 3, side[0] * self._unit, side[1] * self._unit).clone()

    def _patches(self, pixels: Tensor) -> Tensor:
        """Rows of patches as the tower takes them, token by token: [V * N * 4, 3 * frames * patch^2]."""
        views, _, height, width = pixels.shape
        cut = pixels.reshape(views, 3, height // self._unit, FOLD, self._patch, width // self._unit, FOLD, self._patch)
        rows = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)[:, :, :, :, :, :, None]
        return rows.expand(*rows.shape[:6], self._frames, *rows.shape[7:]).reshape(
            -1, 3 * self._frames * self._patch**2
        )

    def stock_patches(self, image: Image.Image) -> Tensor:
        """Rows of patches of a picture as the stock processor makes them all by itself."""
        least, most = self._pixels
        size = {"shortest_edge": least, "longest_edge": most}
        return self._processor(image, size=size, return_tensors="pt")["pixel_values"].float()  # type: ignore[no-any-return]

    def stock_inputs(self, prepared: Prepared, ids: Tensor) -> dict[str, Tensor]:
        """What the stock processor would give beside token ids [B, S] that all ask about this picture."""
        rows, columns = prepared.layout.side
        grid = torch.tensor([[1, rows * FOLD, columns * FOLD]] * len(ids), device=ids.device)
        pixels = self._patches(prepared.pixels.expand(len(ids), -1, -1, -1))
        types = (ids == self.model.config.image_token_id).int()
        return {"pixel_values": pixels.to(ids.device), "image_grid_thw": grid, "mm_token_type_ids": types}

    # -- tower ------------------------------------------------------------------------------------------------------

    def _capture(self, pixels: Tensor, needs: Needs) -> Encoded:
        """As the base's; of blocks that see windows the nearest one that sees everything answers."""
        near = self.info.vision.nearest
        fields = ("cls_attention", "cls_logits", "keys", "received")
        asked: dict[str, Any] = {name: frozenset(map(near, getattr(needs, name))) for name in fields}
        found = super()._capture(pixels, replace(needs, **asked))
        told: dict[str, Any] = {
            name: {layer: getattr(found, name)[near(layer)] for layer in getattr(needs, name)} for name in fields
        }
        return replace(found, **told, cls_query={layer: found.cls_query[near(layer)] for layer in needs.tower_layers})

    def _grid(self, pixels: Tensor) -> TowerGrid:
        views, _, height, width = pixels.shape
        return tower_grid(views, (height // self._unit, width // self._unit), FOLD, self._windows)

    def _turns(self, grid: TowerGrid, device: torch.device) -> Rope:
        """Rotary tables of every patch, [patches, head_dim]: half of them turn by its row, half by its column."""
        angles = grid.places.to(device)[..., None].float() * self._core.visual.rotary_pos_emb.inv_freq.to(device)
        cos, sin = (torch.cat([table.flatten(1)] * 2, -1) for table in (angles.cos(), angles.sin()))
        return cos, sin

    def _bounds(self, grid: TowerGrid, layer: int, device: torch.device) -> Tensor:
        """Where what one patch of block `layer` sees begins and ends; only flash wants that on the device."""
        whole = self.info.vision.whole
        bounds = grid.whole if not whole or layer in whole else grid.windows
        return bounds.to(device) if self.info.attention == "flash_attention_2" else bounds

    def _embedded_patches(self, pixels: Tensor, grid: TowerGrid) -> Tensor:
        return self._core.visual.patch_embed(self._patches(pixels))  # type: ignore[no-any-return]

    def _run_tower(self, pixels: Tensor, taken: frozenset[int]) -> dict[int, Tensor]:
        """Outputs [V, 4 N, C], the four patches of a token together."""
        tower, grid = self._core.visual, self._grid(pixels)
        hidden, outputs = _moved(self._embedded_patches(pixels, grid), grid.order), dict[int, Tensor]()
        turns = self._turns(grid, pixels.device)
        for layer, block in enumerate(tower.blocks[: max(taken)], start=1):
            bounds = self._bounds(grid, layer, pixels.device)
            hidden = block(hidden, cu_seqlens=bounds, position_embeddings=turns)
            if layer in taken:
                outputs[layer] = _moved(hidden, grid.back).unflatten(0, (grid.pictures, -1))
        return outputs

    def _tap_points(self, pixels: Tensor) -> dict[int, TapPoint]:
        grid = self._grid(pixels)
        cos, sin = self._turns(grid, pixels.device)

        def split(both: Tensor) -> tuple[Tensor, Tensor]:
            query, key, _ = both.unflatten(-1, (3, self._heads, -1)).permute(1, 2, 0, 3).float()
            turned = (rotate(heads[None], (cos[None], sin[None]))[0] for heads in (query, key))
            flat = (_moved(heads.transpose(0, 1).flatten(1), grid.back) for heads in turned)
            first, second = (rows.unflatten(0, (grid.pictures, -1)) for rows in flat)
            return first, second

        return {
            number: TapPoint(block.attn.qkv, block.attn.qkv, self._heads, split)
            for number, block in enumerate(self._core.visual.blocks, start=1)
        }

    def _projector_input(self, features: Tensor) -> Tensor:
        """Token t holds its patches (2r, 2c), (2r, 2c+1), (2r+1, 2c), (2r+1, 2c+1), each normed."""
        return self._post_norm(features).unflatten(1, (-1, FOLD**2)).flatten(2)

    def _post_norm(self, states: Tensor) -> Tensor:
        return self._core.visual.merger.ln_q(states)  # type: ignore[no-any-return]

    def _projected(self, tokens: Tensor) -> Tensor:
        return self._core.visual.merger.mlp(tokens)  # type: ignore[no-any-return]

    def _features(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        # In the order of the blocks, as the model itself projects: rows of a product may round by their place in it.
        grid = self._grid(pixels)
        projected = self._projected(tokens.flatten(0, 1)[grid.order.to(tokens.device)])
        return projected[grid.back.to(tokens.device)].unflatten(0, (grid.pictures, -1))

    def _per_token(self, patches: Tensor, dim: int = -1) -> Tensor:
        return patches.unflatten(dim, (-1, FOLD**2)).mean(dim if dim < 0 else dim + 1)

    def _clip_pixels(self, pixels: Tensor, side: int) -> Tensor:
        """Views in CLIP's own normalisation: no text tower pairs with this one, so CLIP looks at the picture itself."""
        return resized_for_clip(pixels, side, self._processor.image_mean, self._processor.image_std)

    # -- language ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def assemble(self, encoded: Encoded, selection: Selection, policy: NewlinePolicy) -> PlacedTokens:
        """Visual embeddings in LLM order with the place of each; extra tokens stand where the selection says, or beside
        the token before them."""
        sequence, side = selection.sequence(encoded.layout, policy).cpu(), encoded.layout.side
        at = selection.extra_at
        where = places(sequence, side, None if at is None else at.cpu())
        return PlacedTokens(self._spliced(encoded, selection, policy), where, max(side))


def _moved(patches: Tensor, order: Tensor) -> Tensor:
    """Patches [tokens * 4, C] with their tokens in another order."""
    return patches.unflatten(0, (-1, FOLD**2))[order.to(patches.device)].flatten(0, 1)
