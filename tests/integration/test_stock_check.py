"""`doctor --against-stock`: equal where we are right, and told apart where something is made wrong."""

import json

import pytest
import torch
from typer.testing import CliRunner

from hero_ray import models
from hero_ray.cli import app, load_verbs
from hero_ray.core.errors import ParameterError
from hero_ray.models.registry import EMBEDDED_WEIGHTS
from hero_ray.models.stock_check import against_stock, verdict
from tests import checkpoints
from tests.checkpoints import INTERNVL, LLAVA_NEXT


@pytest.mark.parametrize("name", ["hero-tiny", "hero-tiny-internvl", "hero-tiny-qwen"])
def test_the_embedded_models_equal_transformers(name):
    load_verbs()
    result = CliRunner().invoke(
        app, ["doctor", "--model", name, "--against-stock", "--samples", "3", "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.output.strip().splitlines()[-1])
    [check] = told["against_stock"]
    assert (check["is_equal"], check["alone"], check["batched"]) == (True, 0.0, 0.0)
    assert (check["prompt"], check["weights"]) == (
        ("no template", "ours") if name == "hero-tiny-internvl" else ("equal", "transformers")
    )
    assert f"{name} in float32 on cpu equals transformers" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mistral-window", "internvl-hf", "llava-15"])
def test_folders_of_every_layout_equal_transformers(tmp_path, kind):
    torch.set_num_threads(1)
    if kind == "internvl-hf":
        checkpoints.internvl_hf(INTERNVL["internvl3_5-8b"], tmp_path)
    elif kind == "llava-15":
        checkpoints.llava_15(LLAVA_NEXT["llama3-8b"], tmp_path)
    else:
        checkpoints.llava_next(LLAVA_NEXT[kind], tmp_path)
    found = against_stock(models.load(str(tmp_path), device="cpu"), tmp_path, 3)
    assert found.is_equal, verdict(found)
    assert (found.prompt, found.weights) == ("equal", "transformers")
    half = against_stock(models.load(str(tmp_path), device="cpu", dtype="bfloat16"), tmp_path, 2)
    assert half.is_equal, verdict(half)


@pytest.mark.slow
def test_what_is_made_wrong_is_told_apart():
    folder = EMBEDDED_WEIGHTS / "hero-tiny"
    other = against_stock(models.load("hero-tiny", device="cpu", style="vicuna"), folder, 2)
    assert (other.is_equal, other.prompt) == (False, "different")
    moved = models.load("hero-tiny", device="cpu")
    moved.model.model.language_model.layers[0].mlp.down_proj.weight.data.mul_(1.5)
    found = against_stock(moved, folder, 2)
    assert not found.is_equal
    assert found.logits > 0.01
    bright = models.load("hero-tiny", device="cpu")
    bright._settings["image_mean"] = [0.1, 0.1, 0.1]
    assert against_stock(bright, folder, 2).pixels > 0.01
    assert "DIFFERS" in verdict(found)


@pytest.mark.slow
def test_the_original_layout_is_refused(tmp_path):
    checkpoints.original_llava_next(LLAVA_NEXT["vicuna-7b"], tmp_path)
    with pytest.raises(ParameterError, match="original LLaVA layout"):
        against_stock(models.load(str(tmp_path), device="cpu"), tmp_path, 2)
