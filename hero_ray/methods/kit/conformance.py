"""What every before-LLM method must keep, as plain functions, so that a foreign package can hold its own method to it.

Take `layouts()`, or build one with `llava_layout`, `single_layout` or `internvl_layout`; fill it with `random_encoded`
and call `check_method`, or single checks. Nothing here needs pytest; a broken promise raises `SelectionError` with what
was seen.

Shape letters: V views, N visual tokens per view, H heads, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hero_ray.core.encoded import Budget, Encoded, Needs, Question, Selection, VisionInfo
from hero_ray.core.errors import NonFiniteScoreError, SelectionError
from hero_ray.core.layout import NEWLINE, Layout
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import Method

CLIP = VisionInfo(num_layers=24, feature_layer=23)
INTERNVIT = VisionInfo(num_layers=24, feature_layer=24, patches_per_token=4, tower="internvit")


def llava_layout(
    grid: tuple[int, int], side: tuple[int, int], rows: slice = slice(None), cols: slice = slice(None)
) -> Layout:
    """LLaVA-NeXT: thumbnail, then the mosaic row by row with newlines; `rows`, `cols` are the unpadded part of it."""
    height, width = grid[0] * side[0], grid[1] * side[1]
    real = torch.zeros(height, width, dtype=torch.bool)
    real[rows, cols] = True
    tiles = real.view(grid[0], side[0], grid[1], side[1]).permute(0, 2, 1, 3).reshape(-1, side[0] * side[1])
    valid = torch.cat([torch.ones(1, side[0] * side[1], dtype=torch.bool), tiles])
    mosaic = Layout(grid, side, torch.empty(0, dtype=torch.long), valid).mosaic()
    body = torch.cat([mosaic[rows, cols], torch.full_like(mosaic[rows, :1], NEWLINE)], 1)
    sequence = torch.cat([torch.arange(side[0] * side[1]), body.reshape(-1)])
    return Layout(grid, side, sequence, valid)


def single_layout(side: tuple[int, int]) -> Layout:
    """LLaVA-1.5, or InternVL2 with one tile: a single view without newlines."""
    tokens = side[0] * side[1]
    return Layout((0, 0), side, torch.arange(tokens), torch.ones(1, tokens, dtype=torch.bool))


def internvl_layout(grid: tuple[int, int], side: tuple[int, int]) -> Layout:
    """InternVL2: tiles view by view, the thumbnail last in the sequence, no padding, no newlines."""
    tokens, views = side[0] * side[1], grid[0] * grid[1] + 1
    sequence = torch.arange(views * tokens).roll(-tokens)
    return Layout(grid, side, sequence, torch.ones(views, tokens, dtype=torch.bool))


def layouts() -> dict[str, tuple[Layout, VisionInfo]]:
    """Pictures of every kind that a method meets, with the tower that sees them: try yours on all of them.

    `thin` ones show one row or column of tokens; `bare` ones are thinner still (72:1 and beyond at 24 tokens a side):
    unpadding leaves nothing of their tiles.
    """
    llava = {
        "next-2x2": llava_layout((2, 2), (6, 6)),
        "next-2x2-unpadded": llava_layout((2, 2), (6, 6), rows=slice(2, 10)),
        "next-1x3-odd": llava_layout((1, 3), (6, 6), rows=slice(1, 5)),
        "next-2x1": llava_layout((2, 1), (6, 6), cols=slice(1, 5)),
        "next-3x3": llava_layout((3, 3), (4, 4)),
        "thin-1x3": llava_layout((1, 3), (6, 6), rows=slice(3, 4)),
        "thin-3x1": llava_layout((3, 1), (6, 6), cols=slice(2, 3)),
        "bare-1x3": llava_layout((1, 3), (6, 6), rows=slice(3, 3)),
        "bare-3x1": llava_layout((3, 1), (6, 6), cols=slice(3, 3)),
        "single": single_layout((6, 6)),
    }
    tiled = {
        "internvl-1x6": internvl_layout((1, 6), (4, 4)),
        "internvl-2x3": internvl_layout((2, 3), (4, 4)),
        "internvl-single": single_layout((4, 4)),
    }
    return {name: (one, CLIP) for name, one in llava.items()} | {name: (one, INTERNVIT) for name, one in tiled.items()}


def random_encoded(
    layout: Layout,
    needs: Needs,
    vision: VisionInfo = CLIP,
    *,
    seed: int = 0,
    heads: int = 2,
    width: int = 8,
    levels: int | None = None,
) -> Encoded:
    """Everything `needs` names, drawn at random; `levels` leaves few values per tensor, which makes ties everywhere."""
    draw = torch.Generator().manual_seed(seed)
    views, tokens = layout.num_views, layout.tokens_per_view

    def normal(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=draw)
        return drawn if levels is None else (drawn * levels / 2).round() * 2 / levels

    def attention(*shape: int) -> Tensor:
        weights = torch.softmax(2.0 * normal(*shape), -1)
        return weights if levels is None else torch.round(weights * levels) / levels

    question = Question(
        text="what is it?",
        clip_score=normal(views) * 0.1 if needs.clip_score else None,
        clip_tokens=normal(views, tokens) * 0.1 if needs.clip_tokens else None,
        llm_attention={layer: attention(heads, 3, views, tokens) for layer in needs.llm_attention},
        llm_embedding=normal(width) if needs.llm_embedding else None,
        prompt_embedding=normal(width) if needs.prompt_embedding else None,
        llm_words=normal(4, width) if needs.llm_words else None,
        clip_words=normal(5, width) if needs.clip_words else None,
        clip_patches=normal(views, tokens, width) if needs.clip_words else None,
    )
    sources = sorted(needs.cls_embedding)
    return Encoded(
        image_id=f"picture-{seed}",
        layout=layout,
        vision=vision,
        features=normal(views, tokens, width),
        projector_input=normal(views, tokens, width) if needs.projector_input else None,
        cls_attention={layer: attention(views, heads, tokens) for layer in sorted(needs.cls_attention)},
        cls_logits={layer: normal(views, heads, tokens) for layer in sorted(needs.cls_logits)},
        cls_query={layer: normal(views, heads, 4) for layer in sorted(needs.keys)},
        keys={layer: normal(views, heads, 1 + tokens, 4) for layer in sorted(needs.keys)},
        received={layer: attention(views, 3, tokens) for layer in sorted(needs.received)},
        cls_embedding={source: normal(views, width) for source in sources},
        question=question if needs.question else None,
    )


def cast(encoded: Encoded, dtype: torch.dtype) -> Encoded:
    """Features in another dtype, as a half-precision model leaves them; captured scores stay in fp32."""
    inputs = encoded.projector_input
    return replace(
        encoded,
        features=encoded.features.to(dtype),
        projector_input=None if inputs is None else inputs.to(dtype),
        cls_embedding={source: value.to(dtype) for source, value in encoded.cls_embedding.items()},
    )


def check_method(method: Method, encoded: Encoded, ratio: float, base: str = "real") -> Selection:
    """Every promise of one selection; returns it for further checks.

    Raises:
        SelectionError: a promise is broken.
    """
    budget = Budget.of(encoded.layout, ratio, base="grid" if base == "grid" else "real")
    selection = method.select(encoded, budget)
    check_selection(method, encoded, budget, selection)
    again = method.select(encoded, budget)
    _must(method, torch.equal(selection.keep, again.keep), "a second call gives the same mask")
    full = Budget.of(encoded.layout, 1.0)
    everything = method.select(encoded, full)
    _must(method, torch.equal(everything.keep, encoded.layout.valid), "R = 1 keeps every real token")
    stock = torch.equal(everything.sequence(encoded.layout), encoded.layout.sequence)
    _must(method, stock, "R = 1 leaves the stock order")
    _must(method, everything.edited is None and everything.extra is None, "R = 1 edits nothing")
    return selection


def check_selection(method: Method, encoded: Encoded, budget: Budget, selection: Selection) -> None:
    """Shape, padding, count, order and reach of one selection.

    Raises:
        SelectionError: a promise is broken.
    """
    layout, keep = encoded.layout, selection.keep.cpu()
    _must(method, keep.dtype == torch.bool and keep.shape == layout.valid.shape, "keep is bool [views, tokens]")
    _must(method, not bool((keep & ~layout.valid).any()), "no padding is kept")
    if method.stage == "before-llm" and not selection.note:
        wanted = min(budget.total, layout.num_patches)
        _must(method, selection.n_selected == wanted, f"{wanted} kept or a note, not {selection.n_selected}")
    sequence = selection.sequence(layout)
    if selection.deferred is not None:
        _must(method, len(selection.deferred) == len(sequence), "deferred speaks of every token that enters")
        sequence = sequence[selection.deferred]
    patches = sequence[sequence >= 0]
    _must(method, len(patches.unique()) == len(patches), "no patch enters twice")
    same = torch.equal(patches.sort().values.cpu(), keep.reshape(-1).nonzero()[:, 0])
    _must(method, same, "the sequence holds exactly the kept patches")
    extras = int(selection.extra.shape[0]) if selection.extra is not None else 0
    reach = -2 - int(sequence.min()) if len(sequence) else -1
    _must(method, reach < extras, "the sequence names only extra rows that exist")
    _must(method, len(sequence) > 0 or bool(selection.note), "at least one visual token remains, or a note")
    if selection.edited is not None:
        _must(method, selection.edited.shape[:2] == keep.shape, "edited is [views, tokens, width]")


def check_rejects_non_finite(
    method: Method, encoded: Encoded, ratio: float, bad: float = float("nan"), place: float = 1.0
) -> bool:
    """Poison each captured score in turn; every one that changes nothing or raises the named error passes.

    `place` says which value, from the first (0) to the last (1) of a tensor.

    Returns whether the method reads any captured score at all.

    Raises:
        SelectionError: a mask came back from a poisoned score that the method reads.
    """
    budget, reads = Budget.of(encoded.layout, ratio), False
    clean = method.select(encoded, budget)
    for what, broken in _poisoned(encoded, bad, place):
        try:
            selection = method.select(broken, budget)
        except NonFiniteScoreError:
            reads = True
            continue
        unread = torch.equal(selection.keep, clean.keep)
        _must(method, unread, f"{bad} in {what} raises NonFiniteScoreError instead of moving the mask")
    return reads


def _poisoned(encoded: Encoded, bad: float, place: float) -> Iterator[tuple[str, Encoded]]:
    """The same picture with one value spoilt, once for every tensor a method may read."""

    def spoilt(value: Tensor) -> Tensor:
        value = value.clone()
        value.view(-1)[round(place * (value.numel() - 1))] = bad
        return value

    yield "features", replace(encoded, features=spoilt(encoded.features))
    if encoded.projector_input is not None:
        yield "projector_input", replace(encoded, projector_input=spoilt(encoded.projector_input))
    for field in ("cls_attention", "cls_logits", "cls_query", "keys", "received", "cls_embedding"):
        for key, value in getattr(encoded, field).items():
            changed: dict[str, Any] = {field: {**getattr(encoded, field), key: spoilt(value)}}
            yield f"{field}[{key!r}]", replace(encoded, **changed)
    question = encoded.question
    if question is None:
        return
    for field in (
        "clip_score",
        "clip_tokens",
        "clip_words",
        "clip_patches",
        "llm_embedding",
        "llm_words",
        "prompt_embedding",
    ):
        if getattr(question, field) is not None:
            answer: dict[str, Any] = {field: spoilt(getattr(question, field))}
            yield f"question.{field}", encoded.asked(replace(question, **answer))
    for layer, rows in question.llm_attention.items():
        yield f"question.llm_attention[{layer}]", encoded.asked(replace(question, llm_attention={layer: spoilt(rows)}))


def _must(method: Method, holds: bool, promise: str) -> None:
    if not holds:
        raise SelectionError(f"{method.name} ({method.variant}) breaks a promise: {promise}")
