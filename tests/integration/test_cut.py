"""The one cut: every door gives the same tokens and words, and a picture is looked at no oftener than it must be."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from hero_ray import benchmarks
from hero_ray.core.encoded import Budget, Encoded, Selection
from hero_ray.core.errors import BudgetError, SelectionError
from hero_ray.core.plan import units
from hero_ray.core.types import Cell
from hero_ray.engine.cut import Picture, Pruning, cut, needs_of
from hero_ray.engine.evaluate import Evaluator, Settings
from hero_ray.engine.vlm import VisionLanguageModel
from hero_ray.methods import create
from hero_ray.methods.base import Method
from hero_ray.models import load
from hero_ray.profiling.requests import Probe, arrange, run_request
from hero_ray.serve.explanation import explain
from hero_ray.serve.schemas import PruningRequest

METHODS = ("full", "hero", "fastv", "ptp", "prumerge+", "downsample")
BENCHMARK = benchmarks.get("synth-attribute")
SAMPLE = next(iter(BENCHMARK.samples(limit=1)))
IMAGE = BENCHMARK.load_image(SAMPLE.image_ref)


@pytest.fixture(scope="module")
def adapter() -> Any:
    torch.set_num_threads(1)
    return load("hero-tiny")


@pytest.fixture(scope="module")
def png() -> bytes:
    stream = io.BytesIO()
    IMAGE.save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("base", ["real", "grid"])
def test_every_door_keeps_the_same_tokens(adapter: Any, png: bytes, name: str, base: Any) -> None:
    ratio, method = (1.0 if name == "full" else 0.25), create(name)
    text = SAMPLE.question  # the embedded benchmarks ask it as it is
    cell = Cell("c", "hero-tiny", name, method.variant, method.parameters(), ratio, BENCHMARK.name, "")
    settings = Settings(budget_base=base, max_new_tokens=4)
    (swept,) = Evaluator(adapter, [cell], {BENCHMARK.name: BENCHMARK}, settings).evaluate(units([SAMPLE])[0])
    assert swept.error_type is None, swept.error_message
    model = VisionLanguageModel(adapter)
    asked = model.generate(IMAGE, text, name, ratio, max_new_tokens=4, budget_base=base)
    assert (asked.text, asked.tokens) == (swept.text, swept.tokens)
    assert np.packbits(asked.selection.keep.reshape(-1)).tobytes() == swept.keep_mask
    pruning = Pruning.of(cell, base)
    timed = run_request(adapter, arrange(adapter, pruning, Probe(IMAGE, text, text)), 1, 2)
    assert timed.keep.equal(asked.selection.keep)
    assert timed.state.visual_per_layer()[0] == asked.tokens.visual_per_layer
    if base == "real":  # the service knows no other
        (row,) = explain(adapter, png, text, [PruningRequest(method=name, retention_ratio=ratio)], 4)["results"]
        assert (row["answer"], base64.b64decode(row["keep"])) == (swept.text, swept.keep_mask)


def test_a_picture_is_encoded_once_and_lets_go_of_its_pixels(adapter: Any) -> None:
    prunings = [Pruning(create(name), ratio) for name in METHODS for ratio in (0.2, 0.5)]
    picture = Picture(adapter, IMAGE, "key", needs_of(prunings, adapter.vision))
    made = [cut(picture, pruning, SAMPLE.question) for pruning in prunings]
    looks = {one.encoded.layout.num_patches for one in made if one.pruning.method.stage == "image"}
    assert (picture.counters.encodes, picture.counters.resized_encodes) == (1, len(looks))
    assert all(max(looks) < one.encoded.layout.num_patches for one in made if one.pruning.method.stage != "image")
    assert "prepared" not in vars(picture)
    assert made[0].budget.base_tokens == picture.layout.num_patches


def test_a_smaller_look_leaves_the_tower_alone_with_the_whole(adapter: Any) -> None:
    picture = Picture(adapter, IMAGE, "key")
    made = cut(picture, Pruning(create("downsample"), 0.2))
    assert (picture.counters.encodes, picture.counters.resized_encodes) == (0, 1)
    assert made.selection.n_selected <= made.budget.total == int(0.2 * picture.layout.num_patches)


def test_budgets_are_a_share_a_count_or_everything(adapter: Any) -> None:
    layout = Picture(adapter, IMAGE, "key").layout
    assert Pruning(create("hero")).budget(layout).is_full
    assert Pruning(create("hero"), tokens=7).budget(layout).total == 7
    with pytest.raises(BudgetError, match="not both"):
        Pruning(create("hero"), 0.5, 7).budget(layout)
    same, other = Pruning(create("hero"), 0.5), Pruning(create("hero", alpha=0.25), 0.5)
    assert same.key == Pruning(create("hero"), 0.5).key != other.key


@dataclass(frozen=True)
class Greedy(Method):
    """Keeps padding too."""

    name = "greedy"

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        return Selection(torch.ones_like(encoded.layout.valid))


def test_padding_is_refused_wherever_a_picture_is_cut(adapter: Any) -> None:
    picture = Picture(adapter, IMAGE.resize((300, 100)), "key")
    assert not picture.layout.valid.all()
    with pytest.raises(SelectionError, match="greedy kept padding"):
        cut(picture, Pruning(Greedy(), 0.5))
