"""The vectors of tests/golden/method_vectors.json and the small pictures they speak of."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hero_ray.core.encoded import Budget, Encoded, Needs, Question, Selection, VisionInfo
from hero_ray.core.layout import NEWLINE, Layout
from hero_ray.methods.kit.conformance import CLIP, llava_layout, random_encoded

_PATH = Path(__file__).parent / "golden" / "method_vectors.json"
VECTORS: dict[str, dict[str, Any]] = {v["id"]: v for v in json.loads(_PATH.read_text())["vectors"]}


def vector(name: str) -> dict[str, Any]:
    """One vector by its id."""
    return VECTORS[name]


def letter(view: int) -> str:
    return "G" if view == 0 else string.ascii_uppercase[view - 1]


def kept(selection: Selection) -> dict[str, list[int]]:
    """Kept positions per view, by the vectors' letters."""
    return {letter(v): row.nonzero()[:, 0].tolist() for v, row in enumerate(selection.keep)}


def llm_order(selection: Selection, layout: Layout) -> list[str]:
    """Sequence in the vectors' words: G1, A0, NL."""
    tokens = layout.tokens_per_view
    return [
        "NL" if entry == NEWLINE else f"{letter(entry // tokens)}{entry % tokens}"
        for entry in selection.sequence(layout).tolist()
    ]


def two_tiles(rows: slice = slice(None)) -> Layout:
    """Grid 1x2, 2x2 tokens per view."""
    return llava_layout((1, 2), (2, 2), rows=rows)


def encoded(layout: Layout, vision: VisionInfo = CLIP, question: Question | None = None, **captured: Any) -> Encoded:
    """An Encoded that holds just what is given."""
    blank = random_encoded(layout, Needs(), vision)
    values = {"features": blank.features, **captured}
    return Encoded("img0", layout, vision, question=question, **values)


def heads(per_view: dict[str, list[float]]) -> Tensor:
    """Head-reduced scores by letter as [V, 1, N]."""
    return torch.tensor([per_view[letter(v)] for v in range(len(per_view))], dtype=torch.float64)[:, None]


def half(layout: Layout) -> Budget:
    """R = .5 of (K + 1) N, as the vectors count."""
    return Budget.of(layout, 0.5, base="grid")


def softmax(values: Sequence[float]) -> list[float]:
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


def cosines_to_first(cosines: Sequence[float]) -> Tensor:
    """Embeddings [1 + len, 2] whose cosine with the first is as given."""
    first = torch.tensor([1.0, *cosines], dtype=torch.float64)
    return torch.stack([first, (1 - first**2).sqrt()], 1)
