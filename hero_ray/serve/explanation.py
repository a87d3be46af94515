"""The engine's side of `/v1/explain`: one picture under several prunings, with masks, ledger and timings."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from PIL import Image

from hero_ray.benchmarks.images import decode
from hero_ray.core.encoded import Encoded
from hero_ray.costs.ledger import ledger
from hero_ray.engine.cut import Cut, Picture, Pruning, cut, generate, needs_of, picture_id
from hero_ray.methods import create
from hero_ray.models.base import Adapter, Generation, Prompt, Request
from hero_ray.serve.schemas import PruningRequest
from hero_ray.serve.work import Caller

COLOUR = "#d55e00"
"""Outline of kept tokens; distinguishable with every common colour vision."""


def pruning_of(asked: PruningRequest) -> Pruning:
    """What a request asks for, its parameters checked.

    Raises:
        UnknownNameError, ParameterError: of the method.
    """
    return Pruning(create(asked.method, **asked.parameters()), asked.retention_ratio, asked.tokens)


def explain(
    adapter: Adapter,
    picture: bytes,
    question: str,
    prunings: Sequence[PruningRequest],
    max_new_tokens: int,
    *,
    scores: bool = True,
    overlay: bool = False,
    max_pixels: int = 40_000_000,
    caller: Caller | None = None,
) -> dict[str, Any]:
    """One picture under several prunings; the vision tower runs once for all that look at the whole picture."""
    caller = caller or Caller()
    caller.check()
    started = time.perf_counter()
    image = decode(picture, max_pixels)
    chosen = [pruning_of(pruning) for pruning in prunings]
    seen = Picture(adapter, image, picture_id(image), needs_of(chosen, adapter.vision))
    prompt = adapter.prompt(question, question)
    if any(seen.plan(pruning, pruning.budget(seen.layout)) is None for pruning in chosen):
        seen.asked(question, prompt)  # before the first row, so that its time is nobody's selection
    encode_ms = 1e3 * (time.perf_counter() - started)
    rows = []
    for pruning in chosen:
        caller.check()
        began = time.perf_counter()
        made = cut(seen, pruning, question, prompt)
        selected = time.perf_counter()
        asked = Request(prompt, made.visual, max_new_tokens)
        generation = generate(adapter, [asked], [made], on_token=lambda *_: caller.check())[0]
        spent = {"select": 1e3 * (selected - began), "generate": 1e3 * (time.perf_counter() - selected)}
        row = _row(adapter, made, prompt, generation) | {"timings_ms": spent}
        if scores and made.selection.scores is not None:
            row["scores"] = [[round(x, 6) for x in view] for view in made.selection.scores.float().cpu().tolist()]
        if overlay:
            row["overlay"] = overlay_png(image, made.selection.keep, made.encoded, adapter.info.family)
        rows.append(row)
    return {
        "model": adapter.info.name,
        "family": adapter.info.family,
        "random_weights": adapter.info.random_weights,
        "image": {"width": image.width, "height": image.height},
        "encode_ms": encode_ms,
        "encodes": seen.counters.encodes + seen.counters.resized_encodes,
        "results": rows,
    }


def _row(adapter: Adapter, made: Cut, prompt: Prompt, generation: Generation) -> dict[str, Any]:
    layout, selection, method = made.encoded.layout, made.selection, made.pruning.method
    keep, count = selection.keep, made.count(prompt, generation)
    per_layer = list(count.visual_per_layer)
    return {
        "method": method.name,
        "variant": method.variant,
        "parameters": method.parameters(),
        "retention_ratio": made.budget.ratio,
        "answer": generation.text,
        "resized": method.stage == "image" and not made.budget.is_full,
        "grid": list(layout.grid),
        "side": list(layout.side),
        "keep": base64.b64encode(np.packbits(keep.numpy().reshape(-1)).tobytes()).decode(),
        "kept_per_view": keep.sum(1).tolist(),
        "view_budgets": list(selection.view_budgets) if selection.view_budgets else None,
        "note": selection.note,
        "details": dict(selection.details),
        "tokens": asdict(count) | {"visual_per_layer": per_layer, "full": int(layout.sequence.shape[0])},
        "ledger": ledger(adapter.info, [per_layer], prompt.num_text, views=layout.num_views)[0],
        "kv_bytes": generation.kv_bytes,
    }


def overlay_png(image: Image.Image, keep: torch.Tensor, encoded: Encoded, family: str) -> str:
    """The picture with dropped tokens dimmed, as a data URL."""
    from hero_ray.results.masks import panels, side_by_side

    geometry = (*encoded.layout.grid, *encoded.layout.side)
    packed = np.packbits(keep.numpy().reshape(-1)).tobytes()
    png = side_by_side(panels(image, image.size, packed, geometry, family, COLOUR))
    return "data:image/png;base64," + base64.b64encode(png).decode()
