"""One question answered twice, by all tokens and by a share of them. No Streamlit; torch only once it is called."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from hero_ray.results import masks
from hero_ray.results.axes import AXES
from hero_ray.results.shown import palette

MAX_PIXELS = 16_000_000
"""Of an upload: a phone's photo, and 48 MB once decoded; every visitor shares one process."""


@dataclass(frozen=True)
class TriedAnswer:
    """What came out, what it kept, and what it cost by the ledger. `seconds`: one run on this machine, no benchmark."""

    method: str
    text: str
    budget: int
    kept: int
    n_visual_llm: int
    equivalent_tokens: float
    flops: float
    kv_bytes: float
    seconds: float
    panels: tuple[masks.Panel, ...]
    note: str = ""

    @property
    def key(self) -> str:
        return f"{self.method} ({self.kept} tokens)"


def load_model(name: str) -> Any:
    """A model in this process; imports torch."""
    from hero_ray.engine.vlm import load_model

    return load_model(name)


def ask(
    model: Any, picture: Image.Image, question: str, method: str, ratio: float, max_new_tokens: int = 24
) -> TriedAnswer:
    """Answer a question about a picture from a share of its visual tokens."""
    from hero_ray.profiling import answer_cost

    begun = time.perf_counter()
    out = model.generate(picture, question, method=method, retention_ratio=ratio, max_new_tokens=max_new_tokens)
    seconds = time.perf_counter() - begun
    keep = np.asarray(out.selection.keep.detach().cpu(), dtype=bool)
    layout = out.encoded.layout
    new_tokens = max(1, len(out.generation.token_ids))
    views = layout.num_views
    cost = answer_cost(model.info, out.tokens.visual_per_layer, out.tokens.n_text, new_tokens, views)
    geometry = (*layout.grid, *layout.side)
    packed = np.packbits(keep.reshape(-1)).tobytes()
    colour = palette.look(method).colour
    drawn = masks.panels(picture, picture.size, packed, geometry, model.info.family, colour)
    return TriedAnswer(
        method=method,
        text=out.text,
        budget=out.budget.total,
        kept=out.tokens.n_selected,
        n_visual_llm=out.tokens.n_visual_llm,
        equivalent_tokens=out.tokens.equivalent_tokens,
        flops=cost.total_flops,
        kv_bytes=cost.kv_bytes,
        seconds=seconds,
        panels=tuple(drawn),
        note=out.selection.note,
    )


def ledger(full: TriedAnswer, pruned: TriedAnswer) -> list[dict[str, str]]:
    """The two answers' costs side by side."""
    flops, flop_unit = AXES["flops"].unit((full.flops, pruned.flops))
    held, held_unit = AXES["kv"].unit((full.kv_bytes, pruned.kv_bytes))
    rows = (
        ("patch tokens kept", full.kept, pruned.kept, "{:,.0f}"),
        ("visual tokens into the LLM", full.n_visual_llm, pruned.n_visual_llm, "{:,.0f}"),
        ("equivalent tokens", full.equivalent_tokens, pruned.equivalent_tokens, "{:,.1f}"),
        (f"{flop_unit}, encoder included", full.flops / flops, pruned.flops / flops, "{:,.1f}"),
        (f"KV cache, {held_unit}", full.kv_bytes / held, pruned.kv_bytes / held, "{:,.1f}"),
        ("ms on this machine, one run", full.seconds * 1e3, pruned.seconds * 1e3, "{:,.0f}"),
    )
    return [
        {
            "": name,
            "full": form.format(first),
            pruned.method: form.format(second),
            "share": f"{100 * second / first:.0f} %" if first else "-",
        }
        for name, first, second, form in rows
    ]


def examples() -> list[tuple[str, str, Image.Image]]:
    """(name, question, picture): one generated scene per kind of question."""
    from hero_ray.benchmarks import get

    found = []
    for name in ("synth-attribute", "synth-digits", "synth-words"):
        benchmark = get(name)
        sample = next(iter(benchmark.samples(limit=1)))
        found.append((name.removeprefix("synth-"), sample.question, benchmark.load_image(sample.image_ref)))
    return found


def open_upload(data: bytes) -> Image.Image:
    """An uploaded picture as RGB, upright.

    Raises:
        ImageError: not a picture, or one too large to be one.
    """
    from hero_ray.benchmarks.images import decode

    return decode(data, MAX_PIXELS)
