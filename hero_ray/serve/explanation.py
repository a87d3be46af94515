"""The engine's side of `/v1/explain`: one picture under several prunings, with masks, ledger and timings."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from hero_ray.benchmarks.images import decode
from hero_ray.core.encoded import Encoded, Needs
from hero_ray.costs.ledger import ledger
from hero_ray.engine.vlm import picture_id
from hero_ray.methods.base import Method
from hero_ray.models.base import Adapter, Prompt, Request
from hero_ray.serve.schemas import Pruning
from hero_ray.serve.splice import POLICY, choose, method_of

COLOUR = "#d55e00"
"""Outline of kept tokens; distinguishable with every common colour vision."""


@dataclass(frozen=True)
class _Asked:
    """What every pruning of one call shares."""

    image: Image.Image
    encoded: Encoded
    prompt: Prompt
    max_new_tokens: int
    scores: bool
    overlay: bool


def explain(
    adapter: Adapter,
    picture: bytes,
    question: str,
    prunings: Sequence[Pruning],
    max_new_tokens: int,
    *,
    scores: bool = True,
    overlay: bool = False,
    max_pixels: int = 40_000_000,
) -> dict[str, Any]:
    """One picture under several prunings; the vision tower runs once for all that look at the whole picture."""
    started = time.perf_counter()
    image = decode(picture, max_pixels)
    methods = [method_of(pruning) for pruning in prunings]
    needs = Needs()
    for method in methods:
        needs = needs | method.needs(adapter.vision)
    prepared = adapter.prepare(image, picture_id(image))
    encoded = adapter.encode(prepared, needs)
    prompt = adapter.prompt(question, question)
    if needs.question:
        encoded = adapter.ask(encoded, question, needs, prompt)
    encode_ms = 1e3 * (time.perf_counter() - started)
    asked = _Asked(image, encoded, prompt, max_new_tokens, scores, overlay)
    rows = [_row(adapter, asked, pruning, method) for pruning, method in zip(prunings, methods, strict=True)]
    return {
        "model": adapter.info.name,
        "family": adapter.info.family,
        "random_weights": adapter.info.random_weights,
        "image": {"width": image.width, "height": image.height},
        "encode_ms": encode_ms,
        "encodes": 1 + sum(row["resized"] for row in rows),
        "results": rows,
    }


def _row(adapter: Adapter, asked: _Asked, pruning: Pruning, method: Method) -> dict[str, Any]:
    started = time.perf_counter()
    own, selection, budget, resized = choose(adapter, asked.image, asked.encoded, pruning, method)
    visual = adapter.assemble(own, selection, POLICY)
    selected = time.perf_counter()
    pruner = None if budget.is_full else method.pruner_for(budget, [selection])
    request = Request(asked.prompt, visual, asked.max_new_tokens)
    generation = adapter.generate([request], pruner=pruner, positions=method.positions)[0]
    done = time.perf_counter()
    layout = own.layout
    keep = selection.keep.cpu()
    row: dict[str, Any] = {
        "method": pruning.method,
        "variant": method.variant,
        "parameters": method.parameters(),
        "retention_ratio": budget.ratio,
        "answer": generation.text,
        "resized": resized,
        "grid": list(layout.grid),
        "side": list(layout.side),
        "keep": base64.b64encode(np.packbits(keep.numpy().reshape(-1)).tobytes()).decode(),
        "kept_per_view": keep.sum(1).tolist(),
        "view_budgets": list(selection.view_budgets) if selection.view_budgets else None,
        "note": selection.note,
        "details": dict(selection.details),
        "tokens": {
            "budget_nominal": budget.total,
            "n_selected": selection.n_selected,
            "n_visual_llm": int(visual.shape[0]),
            "n_text": asked.prompt.num_text,
            "visual_per_layer": list(generation.visual_per_layer),
            "full": int(layout.sequence.shape[0]),
        },
        "ledger": ledger(
            adapter.info, [list(generation.visual_per_layer)], asked.prompt.num_text, views=layout.num_views
        )[0],
        "kv_bytes": generation.kv_bytes,
        "timings_ms": {"select": 1e3 * (selected - started), "generate": 1e3 * (done - selected)},
    }
    if asked.scores and selection.scores is not None:
        row["scores"] = [[round(value, 6) for value in view] for view in selection.scores.float().cpu().tolist()]
    if asked.overlay:
        row["overlay"] = overlay_png(asked.image, keep, own, adapter.info.family)
    return row


def overlay_png(image: Image.Image, keep: torch.Tensor, encoded: Encoded, family: str) -> str:
    """The picture with dropped tokens dimmed, as a data URL."""
    from hero_ray.results.masks import panels, side_by_side

    geometry = (*encoded.layout.grid, *encoded.layout.side)
    packed = np.packbits(keep.numpy().reshape(-1)).tobytes()
    png = side_by_side(panels(image, image.size, packed, geometry, family, COLOUR))
    return "data:image/png;base64," + base64.b64encode(png).decode()
