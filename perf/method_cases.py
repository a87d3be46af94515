"""Random pictures, budgets and scores through every method: nothing may be raised, every promise must hold.

    python -m perf.method_cases [--cases 20000] [--first 0] [--methods hero,hired]

A case is a method with one of its variants, a picture (LLaVA-NeXT with any grid and unpadding, down to tiles that show
padding alone; InternVL2; single views), fp32, bf16 or fp16, scores with or without ties, tokens that are copies of one
another or all the same, a budget by ratio (1e-6 and 1 included) or by tokens on either base. Before the LLM
`conformance.check_method` judges, inside it `boundaries.check_pruner` on batches of two pictures and LLMs of 2 to 40
blocks. Case n is the same on every machine; the first that fails is named.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from hero_ray.core.encoded import Encoded, VisionInfo
from hero_ray.core.layout import Layout
from hero_ray.methods import create, get, names
from hero_ray.methods.kit import boundaries, conformance
from perf.report import report


def picture(draw: random.Random) -> tuple[Layout, VisionInfo]:
    """A layout of any kind, and the tower that sees it."""
    side = (draw.randint(1, 7),) * 2
    kind = draw.choice(("single", "internvl", "next", "next", "thin"))
    if kind == "single":
        return conformance.single_layout(side), draw.choice((conformance.CLIP, conformance.INTERNVIT))
    grid = draw.choice(((1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (2, 3), (1, 6), (3, 3)))
    if kind == "internvl":
        wide = grid if grid != (1, 1) else (1, 2)
        return conformance.internvl_layout(wide, side), conformance.INTERNVIT
    across = draw.random() < 0.5
    length = (grid[0] if across else grid[1]) * side[0]
    edge = length // 2 if kind == "thin" else draw.randint(0, length // 2)
    part = slice(edge, max(edge, length - edge - (draw.random() < 0.3)))
    cut = {"rows": part} if across else {"cols": part}
    return conformance.llava_layout(grid, side, **cut), conformance.CLIP


def alike(encoded: Encoded, what: str) -> Encoded:
    """The picture with its tokens made alike: "copies" of every other one, "constant", "zero", or as they are."""

    def made(tokens: Tensor) -> Tensor:
        if what == "copies":
            return tokens[:, torch.arange(tokens.shape[1]) // 2 * 2]
        return torch.ones_like(tokens) if what == "constant" else torch.zeros_like(tokens)

    if what == "drawn":
        return encoded
    inputs = encoded.projector_input
    return replace(encoded, features=made(encoded.features), projector_input=None if inputs is None else made(inputs))


def case(number: int, chosen: list[tuple[str, str]]) -> str:
    """Runs one case; what it was, in words.

    Raises:
        Exception: whatever a method raised; that is what is looked for.
    """
    draw = random.Random(number)
    name, variant = chosen[number % len(chosen)]
    layout, tower = picture(draw)
    levels, dtype = draw.choice((None, None, 3, 2, 1)), draw.choice((torch.float32, torch.bfloat16, torch.float16))
    tokens = draw.choice((None, None, None, 1, 2, layout.num_views, layout.num_views + 1))
    ratio = draw.choice((draw.uniform(0.001, 0.999), draw.uniform(0.05, 0.6), 0.001, 0.999))
    if tokens is not None:
        ratio = min(1.0, tokens / layout.num_patches)
    base, depth = draw.choice(("real", "grid")), draw.choice((2, 3, 4, 5, 8, 24, 32, 40))
    # Drawn last, so that what is drawn above stays what it was.
    what = draw.choice(("drawn",) * 5 + ("copies", "constant", "zero"))
    if draw.random() < 0.1:
        ratio = draw.choice((1e-6, 1.0))
    words = f"case {number}: {name}:{variant} grid {layout.grid} side {layout.side} real {layout.num_patches} "
    words += f"R {ratio:.4g} {base} levels {levels} {dtype} {what}"
    try:
        method = create(name, variant=variant)
        needs = method.needs(tower)
        drawn = [conformance.random_encoded(layout, needs, tower, seed=number + row, levels=levels) for row in (0, 1)]
        made = [conformance.cast(alike(one, what), dtype) for one in drawn]
        if method.stage != "image":
            conformance.check_method(method, made[0], ratio, base)
        if method.stage == "in-llm":
            boundaries.check_pruner(method, made, ratio, depth, levels)
    except Exception as error:
        raise RuntimeError(words) from error
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--methods", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted = [name for name in options.methods.split(",") if name] or names()
    chosen = [(name, variant) for name in wanted if name != "full" for variant in get(name).variants]
    start, counted = time.process_time(), Counter[str]()
    for number in range(options.first, options.first + options.cases):
        counted[chosen[number % len(chosen)][0]] += 1
        case(number, chosen)
        if (number + 1 - options.first) % 2000 == 0:
            print(f"{number + 1 - options.first} cases, {time.process_time() - start:.0f} s", flush=True)
    report("method_cases", {"cases": options.cases, "seconds": time.process_time() - start, "methods": len(counted)})


if __name__ == "__main__":
    main()
