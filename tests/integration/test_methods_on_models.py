"""Every method on a model of every family: it runs, its figures fit together, and R = 1 is the unpruned answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hero_ray import models
from hero_ray.engine.vlm import VisionLanguageModel
from hero_ray.methods import create, get, names
from hero_ray.models import miniature

PICTURE = Image.fromarray(np.random.default_rng(5).integers(0, 255, (100, 200, 3), dtype=np.uint8))
CASES = [(name, variant) for name in names() for variant in get(name).variants]


@pytest.fixture(scope="module", params=["llava-next", "llava-1.5", "internvl2"])
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "internvl2":
        miniature.write_internvl2(miniature.internvl2(), folder)
    else:
        stock = miniature.llava_next() if request.param == "llava-next" else miniature.llava_15()
        miniature.write_llava(stock, folder, miniature.clip())
    return VisionLanguageModel(models.load(str(folder), device="cpu"))


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_method_runs_and_its_figures_fit(vlm: Any, name: str, variant: str) -> None:
    method = create(name, variant=variant)
    full = vlm.generate(PICTURE, "is it red", max_new_tokens=4)
    same = vlm.generate(PICTURE, "is it red", method=method, retention_ratio=1.0, max_new_tokens=4)
    assert same.generation.token_ids == full.generation.token_ids
    less = vlm.generate(PICTURE, "is it red", method=method, retention_ratio=0.4, max_new_tokens=4)
    tokens = less.tokens
    assert tokens.visual_per_layer[0] == tokens.n_visual_llm
    assert list(tokens.visual_per_layer) == sorted(tokens.visual_per_layer, reverse=True)
    if method.stage == "before-llm" and not less.selection.note:
        assert tokens.n_selected == tokens.budget_nominal
    if name not in ("full", "prumerge+"):
        assert tokens.equivalent_tokens < full.tokens.equivalent_tokens


SETTINGS = [
    *((name, {"variant": variant}) for name, variant in CASES),
    ("gsearch", {"schedule": (1.0, 0.5, 0.25)}),
    ("prumerge", {"count": "fixed"}),
    ("prumerge+", {"count": "fixed"}),
]


@pytest.fixture(scope="module")
def hero_tiny() -> Any:
    return VisionLanguageModel(models.load("hero-tiny", device="cpu"))


@pytest.mark.parametrize(("name", "parameters"), SETTINGS, ids=str)
def test_the_ratio_decides_the_count_where_a_method_says_so(hero_tiny: Any, name: str, parameters: Any) -> None:
    method = create(name, **parameters)
    lived = [
        hero_tiny.generate(PICTURE, "is it red", method=method, retention_ratio=ratio, max_new_tokens=1).tokens
        for ratio in (0.9, 0.1)
    ]
    assert (lived[0].visual_per_layer != lived[1].visual_per_layer) == method.fixed_budget
