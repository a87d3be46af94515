"""In-LLM methods against vectors of the authors' own code, block after block on boundaries written by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

from hero_ray.core.encoded import Budget
from hero_ray.methods import create
from hero_ray.methods.base import LayerPruner
from hero_ray.methods.kit.conformance import CLIP, random_encoded, single_layout
from hero_ray.models.base import LanguageShape
from hero_ray.studies import fitting
from tests.golden.test_official_vectors import cases
from tests.llm_states import WrittenState, products, seen_back, vector_budget
from tests.official import uniform

Boundary = Callable[[int, Tensor, list[tuple[int, int, int]]], WrittenState]


def lives(pruner: LayerPruner, span: tuple[int, int, int], boundary: Boundary) -> dict[int, list[int]]:
    """Visual tokens alive after each block of 32 that drops; `boundary` gives a block's state for places alive."""
    before, visual, behind = span
    places = torch.arange(sum(span))
    found = {}
    for block in range(1, 33):
        spans = [(before, len(places) - before - behind, behind)]
        survivors = pruner.before(boundary(block, places, spans))
        if survivors is not None:
            places = places[survivors.keep[0]]
            found[block - 1] = [place - before for place in places.tolist() if before <= place < before + visual]
            spans = [(before, len(found[block - 1]), behind)]
        pruner.after(boundary(block, places, spans))
    return found


@cases("transprune")
def test_transprune(case: dict[str, Any]) -> None:
    span = (4, 40, 6)

    def boundary(block: int, places: Tensor, spans: list[tuple[int, int, int]]) -> WrittenState:
        # The attention after a cut is the next block's, which has not run yet.
        rows = 3 * (uniform(599 + block, 50, 16) - 0.4)[places]
        parts = [(uniform(500 + 10 * block + part, 50, 16) - 0.4)[places][None] for part in range(4)]
        moves = {"attention": (parts[0], parts[1]), "mlp": (parts[2], parts[3])}
        return _of(span, WrittenState(block, 32, spans, seen_back(products(rows)), moves=moves))

    pruner = create("transprune", variant="paper", shares=case["shares"]).pruner(vector_budget(0.5))
    assert pruner is not None
    assert list(lives(pruner, span, boundary).items()) == list(zip((7, 9, 12), case["kept"], strict=True))


@cases("feather")
def test_feather(case: dict[str, Any]) -> None:
    side = case["side"]
    span, layout = (1, side * side, 5), single_layout((side, side))
    method = create("feather", variant="released", stride=case["stride"])
    budget = Budget.of(layout, case["ratio"])
    selection = method.select(random_encoded(layout, method.needs(CLIP)), budget)
    pruner = method.pruner_for(budget, [selection])
    assert pruner is not None

    def boundary(block: int, places: Tensor, spans: list[tuple[int, int, int]]) -> WrittenState:
        rows = 3 * (uniform(699 + block, sum(span), 16) - 0.4)[places]
        return _of(span, WrittenState(block, 32, spans, logits=products(rows)))

    assert list(lives(pruner, span, boundary).items()) == list(zip((8, 16), case["kept"], strict=True))


@cases("ivc-prune")
def test_ivc_prune(case: dict[str, Any]) -> None:
    span = (case["before"], case["visual"], case["after"])
    angles = torch.arange(sum(span))[:, None] * 10000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    tables = tuple(turned.repeat(1, 2)[None] for turned in (angles.cos(), angles.sin()))

    def boundary(block: int, places: Tensor, spans: list[tuple[int, int, int]]) -> WrittenState:
        values = 3 * (uniform(799 + block, sum(span), 16) - 0.4).unflatten(-1, (2, -1)).transpose(0, 1)[None]
        state = WrittenState(block, 32, spans, block_values=values[:, :, places])
        state.tables = (tables[0][:, places], tables[1][:, places])
        return _of(span, state)

    pruner = create("ivc-prune", variant="released").pruner(vector_budget(0.5))
    assert pruner is not None
    assert lives(pruner, span, boundary) == {16: case["kept"]}


@cases("fitprune")
def test_fitprune(case: dict[str, Any]) -> None:
    span = (35, 576, 8)

    def boundary(block: int, places: Tensor, spans: list[tuple[int, int, int]]) -> WrittenState:
        rows = 3 * (uniform(899 + block, sum(span), 16) - 0.4)[places]
        return _of(span, WrittenState(block, 32, spans, seen_back(products(rows))))

    pruner = create("fitprune", variant="released").pruner(vector_budget(1.0 - case["reduction"] / 100))
    assert pruner is not None
    found, alive, counts = lives(pruner, span, boundary), list(range(576)), []
    for block in range(1, 32):
        alive = found.get(block, alive)
        counts.append(len(alive))
    assert counts == case["counts"][:31]
    for block, kept in case["kept"].items():
        assert found[max(cut for cut in found if cut <= int(block))] == kept


@pytest.mark.slow
@cases("fitprune.search")
def test_fitprune_search(case: dict[str, Any]) -> None:
    span = (35, 576, case["text"])

    def boundary(block: int, places: Tensor, spans: list[tuple[int, int, int]]) -> WrittenState:
        rows = 3 * (uniform(case["seed"] + block, sum(span), 16) - 0.4)[places]
        return _of(span, WrittenState(block, 32, spans, seen_back(products(rows))))

    def send(pruner: LayerPruner) -> None:
        lives(pruner, span, boundary)

    whole = fitting.Received()
    send(whole)
    shape = LanguageShape(32, 4096, 11008, 32, 32, 128, 32000)
    found = fitting.fit([send], [whole], shape, case["reduction"], case["alpha"])
    assert found.reached is case["reached"]
    gone = [0, *accumulate(case["dropped"])]
    assert [round(576 * (1 - share)) for share in found.schedule] == gone[:32]


def _of(span: tuple[int, int, int], state: WrittenState) -> WrittenState:
    """The state with the number of visual tokens that entered, whatever is left of them."""
    state.num_visual = torch.tensor([span[1]])
    return state
